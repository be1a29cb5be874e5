package sample

import (
	"math/bits"
	"time"
)

const (
	// notSlow is how long any call may take.
	notSlow = 100 * time.Millisecond
	// latest is how many calls of a method say what is usual, the latest half of
	// them at least.
	latest = 2048
	// maxMethods bounds the methods that are told apart, each socket's for itself:
	// two drivers are not equally fast.
	maxMethods = 1024
)

// method is one of a socket's.
type method struct {
	socket string
	name
}

// usual is how long a method's calls take: a count for each of some lengths, of
// which the first is below notSlow/2 and each is twice the one before.
type usual struct {
	counts [16]uint16
	n      uint32 // their sum
}

// usuals are those of all methods.
type usuals map[method]*usual

// of is what is usual of a method, so far.
func (u usuals) of(m method) *usual {
	if len(u) >= maxMethods && u[m] == nil {
		m = method{} // all newcomers are one
	}
	if u[m] == nil {
		u[m] = &usual{}
	}
	return u[m]
}

// slow takes in a call, and says whether it took twice as long at least as 99 of
// 100 before it; four times at most, by how coarse the counts are. So of a method's
// calls it can't be true of more than a few in 100, however they change: what is slow
// more often is what is usual.
func (u *usual) slow(took time.Duration) bool {
	at := length(took)
	slow := at >= u.most()+2
	u.add(at)
	return slow
}

// length is the place of a call's length in counts.
func length(took time.Duration) int {
	return min(bits.Len64(uint64(max(took, 0)/(notSlow/2))), len(usual{}.counts)-1)
}

// most is the length above which there is at most one call in 100.
func (u *usual) most() int {
	above, i := uint32(0), len(u.counts)-1
	for ; i > 0; i-- {
		if above += uint32(u.counts[i]); above*100 > u.n {
			break
		}
	}
	return i
}

// add counts a call. Those of long ago count less and less.
func (u *usual) add(at int) {
	u.counts[at]++
	u.n++
	if u.n < latest {
		return
	}
	u.n = 0
	for i := range u.counts {
		u.counts[i] /= 2
		u.n += uint32(u.counts[i])
	}
}

package takeover

import (
	"os"
	"slices"
	"strings"
)

// Mounted names who has a relay's socket mounted as a file, of any path that is
// no longer taken.
func Mounted() ([]Holder, error) { return procDir("/proc").mountedRelays(os.Getpid()) }

func (p procDir) mountedRelays(self int) ([]Holder, error) {
	all, err := p.holders(self, func(base string) bool {
		return strings.HasPrefix(base, ".") && strings.Contains(base, mark+"-")
	})
	// While a path is taken, the server's own socket goes by such a name: who
	// mounted that has what it wanted. A relay's is deleted when it has one.
	return slices.DeleteFunc(all, func(h Holder) bool { return !p.deleted(h) }), err
}

// deleted says whether what a holder has mounted has no name any more.
func (p procDir) deleted(h Holder) bool {
	f, err := os.Open(p.of(h.PID, "mountinfo"))
	if err != nil {
		return false // it is gone, and its mount with it
	}
	defer f.Close()
	for m := range mountsIn(f) {
		if m.at == h.At && strings.HasSuffix(m.root, "/"+h.File+"//deleted") {
			return true
		}
	}
	return false
}

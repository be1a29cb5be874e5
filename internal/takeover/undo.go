package takeover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Result says what an Undo found and did.
type Result uint8

const (
	// NotTaken: nothing of ours was there.
	NotTaken Result = iota
	// Restored: the server's own socket is at its path again.
	Restored
	// Cleaned: the path was not ours, or no longer; what lay beside it is gone.
	Cleaned
	// ServerDown: the server does not answer. Its path is dead, as it would be
	// without us, and what lay beside it is gone.
	ServerDown
)

// outcome is what became of a path, in words.
var outcome = map[Result]string{
	NotTaken:   "it is not taken",
	Restored:   "its path is given back",
	Cleaned:    "its path is its server's, and what was left beside it is removed",
	ServerDown: "its server is down, and its path is dead until that is back",
}

// Undo makes the path what it would be if it had never been taken. What state
// it is in is read from the directory and from who answers a connect there,
// from nothing else: it works after anything, from any process that may write
// there. Its rules, in this order:
//
//   - a socket that answers is never replaced by one that does not;
//   - a file that is not ours, or no longer, is not touched;
//   - of two servers that answer, the one at the path has it.
//
// unserve also takes our own socket off the path where its server is down:
// for a relay that hangs. (One that lives closes it.)
func (p *Place) Undo(unserve bool) (Result, error) {
	unlock, err := p.exclusive(context.Background(), false)
	if err != nil {
		return NotTaken, err
	}
	defer unlock()
	names, err := p.neighbours()
	if err != nil {
		return NotTaken, err
	}
	result := NotTaken
	var failed []error
	for _, name := range names {
		r, err := p.undo(name, unserve)
		result, failed = strongest(result, r), append(failed, err)
	}
	return result, errors.Join(failed...)
}

// strongest is what a person would name of several things done to one path.
func strongest(a, b Result) Result {
	rank := [...]int{NotTaken: 0, Cleaned: 1, ServerDown: 2, Restored: 3}
	if rank[b] > rank[a] {
		return b
	}
	return a
}

// undoTries bounds how often a directory that changes under our hands is read
// anew. Each time is a restart of the server within microseconds of the last.
const undoTries = 32

// undo deals with one neighbour.
func (p *Place) undo(name string, unserve bool) (result Result, err error) {
	u := undoing{Place: p, name: name, unserve: unserve}
	for range undoTries {
		done, r, err := u.step()
		result = strongest(result, r)
		if err != nil || done {
			return result, err
		}
	}
	return result, fmt.Errorf("%s: its server restarts all the time; try again when it is at rest", p.path)
}

// undoing is how far one neighbour's undoing is.
type undoing struct {
	*Place
	name    string
	unserve bool
	rested  bool // the path was as it is for a while
}

// step reads the state and does the one thing that it asks for.
func (u *undoing) step() (done bool, _ Result, _ error) {
	p := u.Place
	beside, err := p.look(u.name)
	if beside == nil || err != nil {
		return true, Cleaned, err
	}
	defer beside.close()
	switch {
	case beside.link():
		return u.undoLink(beside)
	case !beside.socket():
		return true, NotTaken, nil // nobody's of ours
	}
	at, err := p.look(p.base)
	if err != nil {
		return true, NotTaken, err
	}
	defer at.close()
	if u.isOf(beside) { // bound and not yet exchanged, or exchanged back
		done, err = p.remove(u.name, beside.id)
		return done, Cleaned, err
	}
	lives, err := beside.alive()
	if err != nil {
		return true, NotTaken, err
	}
	switch {
	case at != nil && u.isOf(at):
		return u.untake(at, beside, lives)
	case lives && at == nil:
		return u.bringBack()
	case lives:
		return u.settle(at, beside)
	}
	done, err = p.remove(u.name, beside.id) // the server took its path back, or removed it
	return done, Cleaned, err
}

// isOf says whether the neighbour's name was made for this file: it is ours.
func (u *undoing) isOf(f *file) bool { return u.name == u.neighbour("-"+f.String()) }

// untake is of a path where our socket is.
func (u *undoing) untake(at, beside *file, lives bool) (done bool, _ Result, err error) {
	if lives {
		if err := u.stranger(at, beside); err != nil {
			return true, NotTaken, err
		}
		if at.mode != beside.mode || at.uid != beside.uid || at.gid != beside.gid {
			_ = imitate(beside, at) // somebody has only just changed it; not worth keeping the path for
		}
		return u.giveBack(u.name, at, beside)
	}
	if answers, _ := at.alive(); u.unserve && answers {
		if _, err := u.remove(u.base, at.id); err != nil {
			return true, NotTaken, err
		}
	}
	done, err = u.remove(u.name, beside.id)
	return done, ServerDown, err
}

// bringBack is of a path where nothing is, and whose server lives. If another
// one is about to bind there, its name stays free.
func (u *undoing) bringBack() (done bool, _ Result, _ error) {
	if !u.rest() {
		return false, NotTaken, nil
	}
	if err := u.rename(u.name, u.base); err != nil {
		return false, NotTaken, unlessChanged(err, u.Place)
	}
	return true, Restored, nil
}

// settle is of a path that is another's, while the server that was there lives
// too. If the other one answers, or will, it has the path for good. So has what was
// never to answer: no server leaves that behind.
func (u *undoing) settle(at, beside *file) (done bool, _ Result, _ error) {
	answers, err := at.alive()
	switch {
	case err != nil:
		return true, NotTaken, err
	case answers, !at.socket():
		done, err = u.remove(u.name, beside.id)
		return done, Cleaned, err
	case !u.rest():
		return false, NotTaken, nil
	}
	if err := u.stranger(at, beside); err != nil {
		return true, NotTaken, err
	}
	return u.giveBack(u.name, at, beside)
}

// stranger is an error where the neighbour is a user's, who could not have put
// it at the path himself (a directory that all may write to, as /tmp): ours is
// given the owner of what it takes the place of.
func (u *undoing) stranger(at, beside *file) error {
	if beside.uid == at.uid || beside.uid == 0 {
		return nil
	}
	return fmt.Errorf("%s is not what lay at %s: it is user %d's, not user %d's; look who made it, and remove it",
		u.Place.name(u.name), u.path, beside.uid, at.uid)
}

// rest waits, once, for as long as a server may take from its bind, or from
// the unlink before that, until it listens.
func (u *undoing) rest() (rested bool) {
	if u.rested {
		return true
	}
	u.rested = true
	wait := u.wait
	if wait == nil {
		wait = time.Sleep
	}
	wait(starting)
	return false
}

// starting is that time. It is waited only where two servers are seen at once.
const starting = time.Second

// giveBack exchanges the server's socket, which answers, with what is at its
// path. Not done: the neighbour is ours now, and to be removed.
func (p *Place) giveBack(name string, at, beside *file) (done bool, _ Result, _ error) {
	if err := p.exchange(name, p.base); err != nil {
		return false, NotTaken, unlessChanged(err, p)
	}
	out, err := p.look(name)
	if err != nil {
		return true, NotTaken, err
	}
	defer out.close()
	if out != nil && out.id != at.id {
		return false, NotTaken, p.exchangeBack(name, out, beside)
	}
	return false, Restored, nil
}

// exchangeBack undoes an exchange that took out a file that a server had only
// just put there. If it was about to set its mode and owner, it has set those
// of the file that was in its place meanwhile.
func (p *Place) exchangeBack(name string, out, put *file) error {
	if err := p.exchange(name, p.base); err != nil {
		return unlessChanged(err, p)
	}
	if err := put.identify(); err == nil && out.socket() && put.socket() {
		return imitate(out, put)
	}
	return nil
}

// unlessChanged is nil for errors that say that the directory has changed since
// it was read: it is to be read again.
func unlessChanged(err error, p *Place) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EEXIST):
		return nil
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%s: something is mounted on it (grep %s /proc/self/mountinfo); unmount that first", p.path, p.base)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%s: its file system is read-only; make it writable", p.path)
	}
	return fmt.Errorf("%s: rename: %w%s", p.path, cause(err), advice(err))
}

// imitate gives to the mode, owner and label of like, so that whoever may dial
// the one may dial the other. It goes by descriptors: names may change.
func imitate(to, like *file) error {
	if to.uid != like.uid || to.gid != like.gid {
		if err := unix.Fchownat(int(to.Fd()), "", like.uid, like.gid, unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("give a socket to %d:%d, its path's owner: %w%s", like.uid, like.gid, err, advice(err))
		}
	}
	if err := unix.Chmod(to.proc(), like.mode&0o7777); err != nil {
		return fmt.Errorf("give a socket the mode %o of its path: %w", like.mode&0o7777, err)
	}
	buf, has := make([]byte, 4096), make([]byte, 4096)
	for _, attr := range []string{"security.selinux", "system.posix_acl_access"} {
		n, err := unix.Getxattr(like.proc(), attr, buf)
		if err != nil {
			continue // it has none
		}
		if m, err := unix.Getxattr(to.proc(), attr, has); err == nil && bytes.Equal(has[:m], buf[:n]) {
			continue // not everybody may set what is there already
		}
		if err := unix.Setxattr(to.proc(), attr, buf[:n], 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("give a socket its path's %s (%s): %w%s", attr, strings.TrimRight(string(buf[:n]), "\x00"), err, advice(err))
		}
	}
	return nil
}

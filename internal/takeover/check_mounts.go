package takeover

import (
	"path/filepath"
	"slices"
	"strings"
)

// Mounted names who has a relay's socket mounted as a file, of any path that is
// no longer taken.
func Mounted() ([]Holder, error) {
	return holders(func(base string) bool { return strings.HasPrefix(base, ".") && strings.Contains(base, mark+"-aside-") })
}

// mounted is who has a relay's socket mounted that was at this path.
func (p *Place) mounted() []Holder {
	all, _ := holders(func(base string) bool { return strings.HasPrefix(base, p.neighbour("-aside-")) })
	return slices.DeleteFunc(all, func(h Holder) bool {
		// Within its file system, which may be mounted anywhere above.
		return !strings.HasSuffix(filepath.Dir(p.path), strings.TrimSuffix(h.Dir, "/"))
	})
}

package takeover

// Mounted names who has a relay's socket mounted as a file, of any path that is
// no longer taken.
func Mounted() ([]Holder, error) {
	return holders(func(base string) bool { return wasAside(base, nil) })
}

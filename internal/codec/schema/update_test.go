package schema

import "flag"

var update = flag.Bool("update", false, "write descriptors and testdata anew; then read the diff")

// Command effectiveuid says whom it runs as. Installed setuid root, it shows
// critest whether a container may gain privileges.
package main

import (
	"fmt"
	"os"
)

func main() { fmt.Println("Effective uid:", os.Geteuid()) }

// Command webserver stands in for nginx and httpd where critest wants one: it
// answers every request with 200 on the port given as its second argument,
// has written its pid to /var/run/nginx.pid, and logs a line with "httpd" in
// it. Its first argument is only for critest to find in its command line.
package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	err := os.WriteFile("/var/run/nginx.pid", fmt.Appendln(nil, os.Getpid()), 0o644)
	if err == nil {
		fmt.Println("not httpd, but answering on port", os.Args[2])
		err = http.ListenAndServe(":"+os.Args[2], http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, "Welcome to nginx!")
		}))
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

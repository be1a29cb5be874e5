package tap

import (
	"runtime"
	"strconv"
	"strings"
)

// stack is where a goroutine panicked: functions and lines, and nothing of what
// they were called with. Neither that nor the panic's value is told: both could
// hold bytes of the wire.
func stack() string {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	var b strings.Builder
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		b.WriteString(f.Function + " " + f.File + ":" + strconv.Itoa(f.Line) + "\n")
	}
	return b.String()
}

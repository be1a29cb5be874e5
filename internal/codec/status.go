package codec

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// gRPC's status codes that the end of a stream can map to.
const (
	codeCancelled         = 1
	codeUnknown           = 2
	codeDeadlineExceeded  = 4
	codePermissionDenied  = 7
	codeResourceExhausted = 8
	codeUnimplemented     = 12
	codeInternal          = 13
	codeUnavailable       = 14
	codeUnauthenticated   = 16
)

// decodeDetails reads grpc-status-details-bin: base64, padded or not (gRPC over
// HTTP/2, Custom-Metadata). What is neither is none.
func decodeDetails(s string) []byte {
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil || len(b) == 0 {
		return nil
	}
	return b
}

// statusOf reads a call's status from trailers, or from a trailers-only answer.
// Where there is none, what clients make of that holds: gRPC's
// http-grpc-status-mapping.md, as grpc-go applies it.
func statusOf(f *fields, answered bool) (uint32, string) {
	if f.hasGRPCStatus {
		n, err := strconv.ParseInt(f.grpcStatus, 10, 32)
		if err != nil {
			return codeUnknown, "malformed grpc-status " + strconv.Quote(f.grpcStatus)
		}
		return uint32(n), decodeMessage(f.grpcMessage)
	}
	if answered || isGRPC(f.contentType) {
		return codeUnknown, "the server's trailers hold no grpc-status"
	}
	status, err := strconv.Atoi(f.status)
	if err != nil {
		return codeInternal, "the answer holds neither a gRPC nor an HTTP status"
	}
	return httpCode(status), fmt.Sprintf("unexpected HTTP status code received from server: %d (%s)", status, http.StatusText(status))
}

func httpCode(status int) uint32 {
	switch status {
	case http.StatusBadRequest:
		return codeInternal
	case http.StatusUnauthorized:
		return codeUnauthenticated
	case http.StatusForbidden:
		return codePermissionDenied
	case http.StatusNotFound:
		return codeUnimplemented
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return codeUnavailable
	}
	return codeUnknown
}

// resetStatus maps RST_STREAM as gRPC's protocol document does ("Errors"). A
// client that gives up sends CANCEL, for its deadline too: which it was, the
// grpc-timeout of the request tells.
func resetStatus(side Side, code http2.ErrCode, after, timeout time.Duration) (uint32, string) {
	if code == http2.ErrCodeCancel && timeout > 0 && after+deadlineSlack(timeout) >= timeout {
		return codeDeadlineExceeded, "context deadline exceeded"
	}
	if code == http2.ErrCodeCancel && side == Client {
		return codeCancelled, "context canceled"
	}
	status := uint32(codeInternal)
	switch code {
	case http2.ErrCodeCancel:
		status = codeCancelled
	case http2.ErrCodeFlowControl, http2.ErrCodeEnhanceYourCalm:
		status = codeResourceExhausted
	case http2.ErrCodeRefusedStream:
		status = codeUnavailable
	case http2.ErrCodeInadequateSecurity:
		status = codePermissionDenied
	}
	who := "server"
	if side == Client {
		who = "client"
	}
	return status, fmt.Sprintf("stream terminated by the %s's RST_STREAM with error code: %v", who, code)
}

// deadlineSlack is by how much a call may seem shorter than its timeout though
// that is what ended it: the client's clock starts before we see its headers,
// on a busy node well before. To take the rare cancel just before a deadline for
// the deadline misleads nobody; the reverse would.
func deadlineSlack(timeout time.Duration) time.Duration {
	return min(max(timeout/20, 50*time.Millisecond), time.Second, timeout/2)
}

var timeoutUnits = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second,
	'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// parseTimeout reads a grpc-timeout: at most eight digits and a unit. 0: none.
func parseTimeout(s string) time.Duration {
	if len(s) < 2 || len(s) > 9 {
		return 0
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	if err != nil {
		return 0
	}
	unit := timeoutUnits[s[len(s)-1]]
	if unit > 0 && n > uint64(1<<63-1)/uint64(unit) {
		return 1<<63 - 1
	}
	return time.Duration(n) * unit
}

// decodeMessage undoes grpc-message's percent-encoding; what is not properly
// encoded stays as it is.
func decodeMessage(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(v))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

package registry

import (
	"net/http"
	"strings"
	"time"
)

// maxRetryAfter bounds what a Retry-After header can mean. It is longer than
// any caller waits and far from the end of a Duration.
const maxRetryAfter = 365 * 24 * time.Hour

// retryAfter reads the Retry-After header of an answer (RFC 9110, section
// 10.2.3): seconds or a date. A date is compared with the answer's own Date,
// if it has one, so that a clock that is wrong does not matter. A date gone by
// is 0. ok is false if there is no header or it is neither.
func retryAfter(h http.Header, now time.Time) (d time.Duration, ok bool) {
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return parseRetryAfter(h.Get("Retry-After"), now)
}

func parseRetryAfter(v string, now time.Time) (d time.Duration, ok bool) {
	v = strings.Trim(v, " \t")
	if v == "" {
		return 0, false
	}
	if strings.Trim(v, "0123456789") == "" {
		seconds := int64(0)
		for i := range len(v) {
			seconds = seconds*10 + int64(v[i]-'0')
			if seconds >= int64(maxRetryAfter/time.Second) {
				return maxRetryAfter, true
			}
		}
		return time.Duration(seconds) * time.Second, true
	}
	date, err := http.ParseTime(v)
	if err != nil {
		return 0, false
	}
	return min(max(date.Sub(now), 0), maxRetryAfter), true
}

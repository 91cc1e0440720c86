package reference

import "strings"

// Trim returns a name as written, less tag and digest: nothing is filled in,
// "localhost:5000/app:v1" gives "localhost:5000/app". The kubelet's allowlist
// of preloaded images and its records of pulled images are keyed by it
// (k8s.io/kubernetes, pkg/kubelet/images/pullmanager, trimImageTagDigest).
//
// As there, the grammar is looser than [Parse]'s: no Docker Hub is assumed, so
// that what stands before a slash may be any host name, library/ counts for
// nothing, and neither an underscored host nor 64 hex digits are refused. What
// still does not parse is an error, a *[ParseError].
func Trim(name string) (string, error) {
	end, err := scanAsWritten(name)
	if err != nil {
		return "", err
	}
	return name[:end], nil
}

// scanAsWritten reads a name without any defaults and returns where its
// repository ends.
func scanAsWritten(s string) (int, *ParseError) {
	start, at, whyRegistry := 0, 0, Reason("")
	if slash := strings.IndexByte(s, '/'); slash > 0 {
		if at, whyRegistry = scanRegistry(s[:slash]); whyRegistry == "" {
			start = slash + 1
		}
	}
	end, why := scanRepository(s, start)
	switch {
	case why != "" && whyRegistry != "" && at > end: // nearer to what was meant
		return 0, newParseError(s, at, PartRegistry, whyRegistry)
	case why != "":
		return 0, newParseError(s, end, PartRepository, why)
	case end-start > maxRepository:
		return 0, newParseError(s, start+maxRepository, PartRepository, ErrTooLong)
	}
	_, err := scanVersion(s, end)
	return end, err
}

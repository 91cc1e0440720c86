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
	end, f := scanAsWritten(name)
	if f.why != "" {
		return "", newParseError(name, f)
	}
	return name[:end], nil
}

// scanAsWritten reads a name without any defaults and returns where its
// repository ends.
func scanAsWritten(s string) (int, fault) {
	start, f := 0, fault{}
	if slash := strings.IndexByte(s, '/'); slash > 0 {
		if f = scanRegistry(s[:slash]); f.why == "" {
			start = slash + 1
		}
	}
	end, why := scanRepository(s, start)
	if why != "" {
		if f.why != "" && f.at > end {
			return 0, f // nearer to what was meant
		}
		return 0, fault{end, PartRepository, why}
	}
	if over := end - start - maxRepository; over > 0 {
		return 0, fault{end - over, PartRepository, ErrTooLong}
	}
	if end == len(s) {
		return end, fault{}
	}
	var p pieces
	return end, p.readVersion(s, end)
}

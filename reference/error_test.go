package reference_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/reference"
)

func TestEachErrorSaysWhatToWrite(t *testing.T) {
	for _, tt := range []struct {
		in     string
		reason reference.Reason
		text   string
	}{
		{"", reference.ErrMissing, `image name "": repository at byte 0: missing`},
		{"reg.example/App", reference.ErrUpperCase, `image name "reg.example/App": repository at byte 12: upper case letter; write it in lower case`},
		{" nginx", reference.ErrSpace, `image name " nginx": repository at byte 0: white space; remove it`},
		{"nginx:v1\n", reference.ErrSpace, `image name "nginx:v1\n": tag at byte 8: white space; remove it`},
		{"nginx\u200b", reference.ErrSpace, `image name "nginx\u200b": repository at byte 5: white space; remove it`},
		{"\ufeffnginx", reference.ErrSpace, `image name "\ufeffnginx": repository at byte 0: white space; remove it`},
		{"reg.example /x", reference.ErrSpace, `image name "reg.example /x": registry at byte 11: white space; remove it`},
		{"nginx@" + emptyDigest + " ", reference.ErrSpace, `image name "nginx@` + emptyDigest + ` ": digest at byte 6: white space; remove it`},
		{"https://registry.k8s.io/pause", reference.ErrScheme,
			`image name "https://registry.k8s.io/pause": registry at byte 6: scheme; leave it out: a name begins with the registry`},
		{"docker-pullable://nginx", reference.ErrScheme, ""},
		{"OCI://x", reference.ErrScheme, ""},
		{"pause-$(ARCH)", reference.ErrTemplate,
			`image name "pause-$(ARCH)": repository at byte 6: variable or template left in; fill it in before the name is used`},
		{"${REGISTRY}/pause", reference.ErrTemplate, ""},
		{"$(REGISTRY)/pause", reference.ErrTemplate, ""},
		{"{{ .Values.image }}:v1", reference.ErrTemplate, ""},
		{"{{.Values.registry}}/x", reference.ErrTemplate, ""},
		{"nginx:{{ .Tag }}", reference.ErrTemplate, ""},
		{"nginx@${DIGEST}", reference.ErrTemplate, ""},
		{"nginx@sha256:$(DIGEST)", reference.ErrTemplate, ""},
		{"reg.example:${PORT}/x", reference.ErrTemplate, ""},
		{"nginx@sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709", reference.ErrAlgorithm,
			`image name "nginx@sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709": digest at byte 6: unknown digest algorithm; use sha256, sha384 or sha512`},
		{"nginx@SHA256:" + emptyDigest[7:], reference.ErrAlgorithm, ""},
		{"nginx@sha256+b64:x", reference.ErrAlgorithm, ""},
		{"nginx@sha256:abc", reference.ErrDigest, ""},
		{"nginx@latest", reference.ErrDigest, ""},
		{"nginx@:x", reference.ErrDigest, ""},
		{"nginx@+:x", reference.ErrDigest, ""},
		{"nginx@", reference.ErrMissing, `image name "nginx@": digest at byte 6: missing`},
		{"nginx:", reference.ErrMissing, `image name "nginx:": tag at byte 6: missing`},
		{"/nginx", reference.ErrMissing, `image name "/nginx": registry at byte 0: missing`},
		{"a//b", reference.ErrMissing, ""},
		{"nginx:-v1", reference.ErrSeparator, ""},
		{"nginx-", reference.ErrSeparator, ""},
		{"a..b", reference.ErrSeparator, ""},
		{"-a.b/c", reference.ErrSeparator, ""},
		{"nginx:v1+meta", reference.ErrCharacter, ""},
		{"nginx:v1:v2", reference.ErrCharacter, ""},
		{"foo_bar.com/x", reference.ErrUnderscore,
			`image name "foo_bar.com/x": registry at byte 3: underscore in a registry; a host name has none: write the host's IP address, or rename the host`},
		{"my_registry:5000/x", reference.ErrUnderscore, ""},
		{"foo:abc/bar", reference.ErrPort, ""},
		{"foo:/bar", reference.ErrPort, ""},
		{emptyDigest[7:], reference.ErrImageID, ""},
		{strings.Repeat("a", 248), reference.ErrTooLong, ""},
		{"nginx:" + strings.Repeat("a", 129), reference.ErrTooLong, ""},
		{"user:hunter2@reg.example/x", reference.ErrUserinfo,
			`image name "[redacted]@reg.example/x": registry at byte 0: user name or password; leave it out, and give it to the program as a credential`},
		{"https://user:hunter2@reg.example/x", reference.ErrUserinfo,
			`image name "https://[redacted]@reg.example/x": registry at byte 8: user name or password; leave it out, and give it to the program as a credential`},
		{"@reg.example/x", reference.ErrUserinfo, `image name "@reg.example/x": registry at byte 0: user name or password; leave it out, and give it to the program as a credential`},
		{"reg.example:5000/app@latest", reference.ErrDigest, `image name "reg.example:5000/app@latest": digest at byte 21: malformed digest; write the algorithm, a colon and all its lower-case hex digits`},
		{"user:hunter2@latest", reference.ErrDigest, `image name "[redacted]@latest": digest at byte 11: malformed digest; write the algorithm, a colon and all its lower-case hex digits`},
		{"user:Hunter2@", reference.ErrMissing, `image name "[redacted]@": digest at byte 11: missing`},
		{"User:hunter2@reg.example", reference.ErrUpperCase, `image name "[redacted]@reg.example": repository at byte 0: upper case letter; write it in lower case`},
		{"team/User:hunter2@reg.example", reference.ErrUpperCase, `image name "[redacted]@reg.example": repository at byte 0: upper case letter; write it in lower case`},
		{"https://user:hunter2@reg.example", reference.ErrScheme,
			`image name "https://[redacted]@reg.example": registry at byte 6: scheme; leave it out: a name begins with the registry`},
	} {
		r, err := reference.Parse(tt.in)
		assert.Zero(t, r)
		var perr *reference.ParseError
		require.ErrorAs(t, err, &perr, "%q", tt.in)
		assert.Equal(t, tt.reason, perr.Reason, "%q: %v", tt.in, err)
		assert.ErrorIs(t, err, tt.reason, "%q", tt.in)
		if tt.text != "" {
			assert.EqualError(t, err, tt.text)
		}
	}
}

// TestOffsetOfTooLongIsTheFirstByteTooMany: the Offset of ErrTooLong is the first byte past the limit.
func TestOffsetOfTooLongIsTheFirstByteTooMany(t *testing.T) {
	for in, at := range map[string]int{
		strings.Repeat("a", 300):                  247, // library/ is added
		"docker.io/" + strings.Repeat("a", 300):   10 + 247,
		"a/" + strings.Repeat("a", 300):           255,
		"reg.example/" + strings.Repeat("a", 300): 12 + 255,
		"x:" + strings.Repeat("a", 300):           2 + 128,
	} {
		_, err := reference.Parse(in)
		var perr *reference.ParseError
		require.ErrorAs(t, err, &perr)
		assert.Equal(t, at, perr.Offset, "%.20q", in)
	}
	_, err := reference.Trim("reg.example/" + strings.Repeat("a", 300))
	var perr *reference.ParseError
	require.ErrorAs(t, err, &perr)
	assert.Equal(t, 12+255, perr.Offset)
}

// TestErrorsShowNoPassword: no form of the error has text that may be a password.
func TestErrorsShowNoPassword(t *testing.T) {
	for _, in := range []string{
		"user:hunter2@reg.example/x", "https://user:hunter2@reg.example/x", "hunter2@reg.example/x",
		"user:hunter2@reg.example", "user:hunter2@reg.example:5000", "user:hunter2@", "user:hunter2@sha.example:5000/x",
		"user:p@hunter2@reg.example/x:v1@" + emptyDigest, "user:hunter2@reg.example/x@sha256:abc",
		"user:hunter2@reg.example/x y", "a/user:hunter2@reg.example/x", "https://user:hun/ter2hunter2@reg.example/x",
		"docker://user:hunter2@x", "user:hunter2@reg.example/X@SHA256:1",
	} {
		for _, parse := range []func(string) error{
			func(s string) error { _, err := reference.Parse(s); return err },
			func(s string) error { _, _, err := reference.ParseWritten(s); return err },
			func(s string) error { _, err := reference.Parser{Tag: "x"}.Parse(s); return err },
			func(s string) error { _, err := reference.Trim(s); return err },
			func(s string) error { return new(reference.Reference).UnmarshalText([]byte(s)) },
			func(s string) error { _, err := reference.MustParse("x").WithRegistry(s); return err },
		} {
			err := parse(in)
			require.Error(t, err, "%q", in)
			for _, verb := range []string{"%v", "%+v", "%#v", "%q"} {
				assert.NotContains(t, fmt.Sprintf(verb, err), "hunter2", "%q", in)
			}
			var perr *reference.ParseError
			require.ErrorAs(t, err, &perr)
			assert.NotContains(t, fmt.Sprintf("%+v", *perr), "hunter2", "%q", in)
		}
	}
}

// TestNameWithABadDigestIsShown: a colon before an @ does not mean a password if a digest follows.
func TestNameWithABadDigestIsShown(t *testing.T) {
	for _, in := range []string{
		"reg.example:5000/app@latest", "localhost:5000/team/app@v1", "10.0.0.5:80/app:v1@latest", "[::1]:5000/app@latest", "localhost:5000/app@",
		"nginx:v1@sha256:abc", "nginx:v1@SHA256:abc", "reg.example:5000/x:v1@md5:abc", "nginx@latest", "nginx@v1@" + emptyDigest,
		"nginx:v1@sha265:" + emptyDigest[7:], "reg.example:5000/x:v1@sha3-256:" + emptyDigest[7:], "nginx:v1@sha256+b64u:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
	} {
		_, err := reference.Parse(in)
		assert.ErrorContains(t, err, fmt.Sprintf("%q", in))
	}
}

// TestTextThatMayBeAPasswordIsHidden: text that may be a name or a password is not shown.
func TestTextThatMayBeAPasswordIsHidden(t *testing.T) {
	for in, shown := range map[string]string{
		"app:v1@latest":                     "[redacted]@latest",
		"reg.example/app:v1@latest":         "[redacted]@latest",
		"reg:5000/app@latest":               "[redacted]@latest", // a host without a dot may be a user
		"reg.example:123456/app@latest":     "[redacted]@latest", // no port has six digits
		"reg.example:hunter2/app@latest":    "[redacted]@latest",
		"reg.example:5000/App@latest":       "[redacted]@latest",
		"reg.example:5000/app:@latest":      "[redacted]@latest",
		"reg.example:5000@latest":           "[redacted]@latest",
		"reg.example:5000/app@x@latest":     "[redacted]@latest",
		"http://reg.example:5000/a@latest":  "http://[redacted]@latest",
		"localhost.:5000/app@latest":        "[redacted]@latest",
		"app:v1@latest@" + emptyDigest:      "[redacted]@latest@" + emptyDigest,
		"reg.example:50/a@b@" + emptyDigest: "reg.example:50/a@b@" + emptyDigest,
	} {
		_, err := reference.Parse(in)
		var perr *reference.ParseError
		require.ErrorAs(t, err, &perr, "%q", in)
		assert.Equal(t, shown, perr.Input, "%q", in)
		assert.NotErrorIs(t, err, reference.ErrUserinfo, "%q", in)
	}
}

func TestLongInputIsCut(t *testing.T) {
	in := strings.Repeat("ä", 1<<20)
	_, err := reference.Parse("x:" + in)
	assert.Less(t, len(err.Error()), 500)
	assert.Contains(t, err.Error(), `... (2097154 bytes): tag at byte 2: `)
	assert.NotContains(t, err.Error(), `\x`, "a character is not cut in two")
	_, err = reference.Parse(strings.Repeat("\xff", 1<<20))
	assert.Less(t, len(err.Error()), 1400)
}

func TestParseErrorWithAnyReason(t *testing.T) {
	err := &reference.ParseError{Input: "x", Part: reference.PartTag, Offset: 1, Reason: "something else"}
	assert.EqualError(t, err, `image name "x": tag at byte 1: something else`)
}

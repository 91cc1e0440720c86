package reference_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/reference"
)

// seeds are all inputs of the vectors, and variants of them.
func seeds(f *testing.F) {
	for file, want := range map[string]int{"accept.json": 168, "reject.json": 182, "quirk.json": 23} {
		for _, v := range load[nameVector](f, file, want) {
			f.Add(v.Input)
		}
	}
	for _, s := range []string{"LOCALHOST/x", "a_b.c/d", "A_b/c", "[1]/x", "[::1]/x", "[a.b]/x", "x@sha256:" + strings.Repeat("0", 64) + "/y", "docker.io/library/library", "library/library/x"} {
		f.Add(s)
	}
}

// FuzzRoundTrip: the printed forms of an accepted name parse to the same value.
func FuzzRoundTrip(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, s string) {
		r, w, err := reference.ParseWritten(s)
		if err != nil {
			checkError(t, s, err)
			checkShown(t, s, err)
			return
		}
		for _, form := range []string{r.String(), r.Familiar(), w.CRI, r.Name() + r.String()[len(r.Name()):]} {
			again, err := reference.Parse(form)
			require.NoError(t, err, "%q of %q", form, s)
			require.Equal(t, r, again, "%q of %q", form, s)
		}
		require.Equal(t, r, r.Clone(), "%q", s)
		require.Zero(t, r.Compare(r.Clone()), "%q", s)
		if r.Digest() != "" {
			require.NoError(t, r.Digest().Validate(), "%q", s)
		}
		checkText(t, r)
		checkChanges(t, r)
		zero, err := reference.Parser{}.Parse(s)
		require.NoError(t, err, "%q", s)
		require.Equal(t, r, zero, "the zero Parser on %q", s)
		other, err := reference.Parser{Registry: "other.example", Namespace: "ns", Tag: "stable"}.Parse(r.String())
		require.NoError(t, err, "%q", s)
		require.Equal(t, r, other, "a canonical name means the same to every Parser: %q", s)
		name, err := reference.Trim(s)
		require.NoError(t, err, "Trim(%q)", s)
		require.True(t, strings.HasPrefix(s, name), "Trim(%q)", s)
	})
}

func checkText(t *testing.T, r reference.Reference) {
	data, err := json.Marshal(map[reference.Reference]reference.Reference{r: r})
	require.NoError(t, err)
	var back map[reference.Reference]reference.Reference
	require.NoError(t, json.Unmarshal(data, &back))
	require.Equal(t, map[reference.Reference]reference.Reference{r: r}, back)
}

// checkChanges: each changed copy is a value that Parse could have made.
func checkChanges(t *testing.T, r reference.Reference) {
	same := func(changed reference.Reference, err error) {
		if err != nil {
			var perr *reference.ParseError
			require.ErrorAs(t, err, &perr)
			require.Zero(t, changed)
			return
		}
		again, err := reference.Parse(changed.String())
		require.NoError(t, err)
		require.Equal(t, changed, again)
	}
	same(r.WithoutTag(), nil)
	same(r.WithoutDigest(), nil)
	if r.Tag() != "" && r.Digest() != "" {
		require.Equal(t, r.Tag(), r.WithoutDigest().Tag())
		back, err := r.WithoutDigest().WithDigest(r.Digest())
		require.NoError(t, err)
		require.Equal(t, r, back)
		back, err = r.WithoutTag().WithTag(r.Tag())
		require.NoError(t, err)
		require.Equal(t, r, back)
	}
	same(r.WithTag("v2"))
	same(r.WithDigest(emptyDigest))
	same(r.WithArch("s390x"))
	for _, host := range []string{"mirror.example:5000", "docker.io", "index.docker.io", "[::1]", "localhost", "HOST"} {
		same(r.WithRegistry(host))
	}
}

// checkError checks what a ParseError promises.
func checkError(t *testing.T, s string, err error) {
	var perr *reference.ParseError
	require.ErrorAs(t, err, &perr, "%q", s)
	require.True(t, 0 <= perr.Offset && perr.Offset <= len(s), "%d in %q", perr.Offset, s)
	require.Less(t, len(err.Error()), 1500, "%q", s) // 300 bytes as \xff and the like
	for _, r := range err.Error() {
		require.True(t, r >= ' ' && r != 0x7f, "control character in %q", err.Error())
	}
	reason := perr.Reason
	require.NotEmpty(t, reason, "%q", s)
	switch {
	case perr.Part == reference.PartDigest, reason == reference.ErrTooLong, reason == reference.ErrImageID, reason == reference.ErrUserinfo:
		return // the offset of these is the beginning or the end of a part
	}
	// The text before the fault can be the beginning of a name.
	for _, rest := range []string{"", "a", "/a", "0/a", ":0/a", "::1]/a", "]/a", "a/a"} {
		_, err := reference.Parse(s[:perr.Offset] + rest)
		if err == nil || errors.Is(err, reference.ErrTooLong) {
			return
		}
	}
	require.Fail(t, "the text before the fault is not the beginning of a name", "%q, from %q: %v", s[:perr.Offset], s, err)
}

// These regular expressions make a second parser, slow and simple, for
// FuzzAgreesWithRegularExpressions.
const (
	label      = `[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*`
	host       = `(?:` + label + `(?:\.` + label + `)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?`
	component  = `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`
	repository = component + `(?:/` + component + `)*`
	version    = `(?::([a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}))?(?:@(sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}))?`
)

var (
	qualified = regexp.MustCompile(`^(` + host + `)/(` + repository + `)` + version + `$`)
	asWritten = regexp.MustCompile(`^(?:(` + host + `)/)?(` + repository + `)` + version + `$`)
	imageID   = regexp.MustCompile(`^[a-f0-9]{64}$`)
)

// naiveParse returns registry, repository, tag and digest, or nil for a refused name.
func naiveParse(s string) []string {
	if imageID.MatchString(s) {
		return nil
	}
	first, rest, slash := strings.Cut(s, "/")
	switch {
	case !slash:
		s = "docker.io/library/" + s
	case first == "docker.io" || first == "index.docker.io":
		if !strings.Contains(rest, "/") {
			rest = "library/" + rest
		}
		s = "docker.io/" + rest
	case first == "localhost" || strings.ContainsAny(first, ".:") || strings.ToLower(first) != first:
	default:
		s = "docker.io/" + s
	}
	m := qualified.FindStringSubmatch(s)
	if m == nil || len(m[2]) > 255 {
		return nil
	}
	if m[3] == "" && m[4] == "" {
		m[3] = "latest"
	}
	return m[1:]
}

func naiveTrim(s string) (string, bool) {
	m := asWritten.FindStringSubmatch(s)
	if m == nil || len(m[2]) > 255 {
		return "", false
	}
	if m[1] != "" {
		return m[1] + "/" + m[2], true
	}
	return m[2], true
}

// FuzzAgreesWithRegularExpressions: the scanner and the regular expressions agree.
func FuzzAgreesWithRegularExpressions(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, s string) {
		want := naiveParse(s)
		r, err := reference.Parse(s)
		require.Equal(t, want != nil, err == nil, "%q: %v", s, err)
		if err == nil {
			require.Equal(t, want, []string{r.Registry(), r.Repository(), r.Tag(), r.Digest().String()}, "%q", s)
		}
		name, ok := naiveTrim(s)
		got, err := reference.Trim(s)
		require.Equal(t, ok, err == nil, "Trim(%q): %v", s, err)
		require.Equal(t, name, got, "Trim(%q)", s)
	})
}

func FuzzCompare(f *testing.F) {
	f.Add("pause", "library/pause:v1")
	f.Add("docker.io/library/x", "docker.io/libraryx/y")
	f.Add("docker.io/lib/x", "docker.io/library")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, err1 := reference.Parse(a)
		y, err2 := reference.Parse(b)
		if err1 != nil || err2 != nil {
			return
		}
		parts := func(r reference.Reference) []string {
			return []string{r.Registry(), r.Repository(), r.Tag(), r.Digest().String()}
		}
		want := 0
		for i := range 4 {
			if want == 0 {
				want = strings.Compare(parts(x)[i], parts(y)[i])
			}
		}
		require.Equal(t, want, x.Compare(y), "%q %q", a, b)
		require.Equal(t, -want, y.Compare(x), "%q %q", a, b)
		require.Equal(t, x == y, x.Compare(y) == 0, "%q %q", a, b)
	})
}

// FuzzParser: Parse reads each name that a Parser makes, with any values in the Parser's
// fields.
func FuzzParser(f *testing.F) {
	f.Add("ghcr.io", "team/images", "stable", "app")
	f.Add("docker.io", "library", "", "pause")
	f.Add("", "x", "", "pause@"+emptyDigest)
	f.Fuzz(func(t *testing.T, registry, namespace, tag, s string) {
		r, err := reference.Parser{Registry: registry, Namespace: namespace, Tag: tag}.Parse(s)
		if err != nil {
			return
		}
		again, err := reference.Parse(r.String())
		require.NoError(t, err, "%q", r)
		require.Equal(t, r, again)
	})
}

// FuzzPassword: no form of the error for a URL with user and password has the password,
// with any text around the password.
func FuzzPassword(f *testing.F) {
	f.Add("", "user", "", "", "reg.example", "app:v1")
	f.Add("https://", "reg.example", "5000/", "@sha256:ab", "reg.example:5000", "app@latest")
	f.Add("", "reg.example", "5000/app@", "@md5:", "h", "a@sha256:"+strings.Repeat("0", 64))
	f.Add("", "a.b", "1/x", "", "", "y@z")
	f.Add("docker://", "u", "x://", "/", "", "@")
	f.Fuzz(func(t *testing.T, scheme, user, before, after, host, rest string) {
		const password = "hunter2"
		if strings.Contains(scheme+" "+user+" "+host+" "+rest, password) {
			return
		}
		s := scheme + user + ":" + before + password + after + "@" + host + "/" + rest
		_, err := reference.Parse(s)
		if err == nil {
			return // "reg.example:5000/hunter2@sha256:..." is a name
		}
		var perr *reference.ParseError
		require.ErrorAs(t, err, &perr, "%q", s)
		require.NotContains(t, fmt.Sprintf("%v %q %+v", err, perr.Input, *perr), password, "%q", s)
		checkShown(t, s, err)
	})
}

// checkShown: the byte that an error's text names is a byte of the name in that text.
func checkShown(t *testing.T, s string, err error) {
	var perr *reference.ParseError
	require.ErrorAs(t, err, &perr, "%q", s)
	m := regexp.MustCompile(`": (?:registry|repository|tag|digest) at byte ([0-9]+): |bytes\): \w+ at byte ([0-9]+): `).FindAllStringSubmatch(err.Error(), -1)
	require.NotEmpty(t, m, "%q: %v", s, err)
	last := m[len(m)-1]
	at, err := strconv.Atoi(last[1] + last[2])
	require.NoError(t, err)
	require.LessOrEqual(t, at, len(perr.Input), "%q: %v", s, perr)
	if perr.Input == s {
		require.Equal(t, perr.Offset, at, "%q: %v", s, perr)
	}
}

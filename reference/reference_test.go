package reference_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/reference"
)

const emptyDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestZeroReferenceNamesNothing(t *testing.T) {
	var r reference.Reference
	assert.True(t, r.IsZero())
	for _, s := range []string{r.Registry(), r.Repository(), r.Name(), r.Tag(), r.Digest().String(), r.String(), r.Familiar()} {
		assert.Empty(t, s)
	}
	assert.Equal(t, r, r.Clone())
	assert.Equal(t, r, r.WithoutTag())
	assert.Equal(t, r, r.WithoutDigest())
	for _, changed := range []func() (reference.Reference, error){
		func() (reference.Reference, error) { return r.WithTag("v1") },
		func() (reference.Reference, error) { return r.WithDigest(emptyDigest) },
		func() (reference.Reference, error) { return r.WithRegistry("quay.io") },
		func() (reference.Reference, error) { return r.WithArch("amd64") },
	} {
		got, err := changed()
		assert.ErrorIs(t, err, reference.ErrMissing)
		assert.Zero(t, got)
	}
	assert.Negative(t, r.Compare(reference.MustParse("a")))
}

func TestReferencesAsJSON(t *testing.T) {
	type config struct{ Image, Other reference.Reference }
	var c config
	require.NoError(t, json.Unmarshal([]byte(`{"Image": "pause", "Other": ""}`), &c))
	assert.Equal(t, config{Image: reference.MustParse("pause")}, c)
	data, err := json.Marshal(c)
	require.NoError(t, err)
	assert.JSONEq(t, `{"Image": "docker.io/library/pause:latest", "Other": ""}`, string(data))
	assert.ErrorIs(t, json.Unmarshal([]byte(`{"Image": "Pause"}`), &c), reference.ErrUpperCase)
	assert.Equal(t, reference.MustParse("pause"), c.Image, "an error does not change the value")
	b, err := c.Image.AppendText([]byte("image="))
	require.NoError(t, err)
	assert.Equal(t, "image=docker.io/library/pause:latest", string(b))
}

func TestMustParsePanics(t *testing.T) {
	assert.PanicsWithError(t, `image name "reg.example/App": repository at byte 12: upper case letter; write it in lower case`,
		func() { reference.MustParse("reg.example/App") })
}

func TestParseWrittenSaysWhatWasWritten(t *testing.T) {
	for in, want := range map[string]reference.Written{
		"pause":                           {CRI: "pause:latest"},
		"pause:latest":                    {Tag: true, CRI: "pause:latest"},
		"docker.io/pause":                 {Registry: true, CRI: "docker.io/pause:latest"},
		"localhost:5000":                  {Tag: true, CRI: "localhost:5000"},
		"localhost:5000/x@" + emptyDigest: {Registry: true, CRI: "localhost:5000/x@" + emptyDigest},
		"x:v1@" + emptyDigest:             {Tag: true, CRI: "x:v1@" + emptyDigest},
	} {
		_, got, err := reference.ParseWritten(in)
		require.NoError(t, err)
		assert.Equal(t, want, got, "%q", in)
	}
	_, got, err := reference.ParseWritten("Pause")
	assert.Error(t, err)
	assert.Zero(t, got)
}

func TestWithMethodsChangeOnePart(t *testing.T) {
	long := strings.Repeat("a", 247)
	for _, tt := range []struct {
		from   string
		change func(reference.Reference) (reference.Reference, error)
		want   string // canonical, or the error
		err    error
	}{
		{"pause", tag("v1"), "docker.io/library/pause:v1", nil},
		{"pause@" + emptyDigest, tag("v1"), "docker.io/library/pause:v1@" + emptyDigest, nil},
		{"pause", tag(""), `tag "": byte 0: missing`, reference.ErrMissing},
		{"pause", tag("v1@x"), `tag "v1@x": byte 2: character not allowed`, reference.ErrCharacter},
		{"pause", tag("$(TAG)"), `tag "$(TAG)": byte 0: variable or template left in; fill it in before the name is used`, reference.ErrTemplate},
		{"pause:v1", untag, "docker.io/library/pause:v1", nil},
		{"pause:v1@" + emptyDigest, untag, "docker.io/library/pause@" + emptyDigest, nil},
		{"pause:v1", unpin, "docker.io/library/pause:v1", nil},
		{"pause:v1@" + emptyDigest, unpin, "docker.io/library/pause:v1", nil},
		{"pause@" + emptyDigest, unpin, "docker.io/library/pause@" + emptyDigest, nil},
		{"pause:v1", pin(emptyDigest), "docker.io/library/pause:v1@" + emptyDigest, nil},
		{"pause:v1", pin(""), `digest "": byte 0: missing`, reference.ErrMissing},
		{"pause:v1", pin("md5:x"), `digest "md5:x": byte 0: unknown digest algorithm; use sha256, sha384 or sha512`, reference.ErrAlgorithm},
		{"pause", registry("mirror.example:5000"), "mirror.example:5000/library/pause:latest", nil},
		{"mirror.example/pause", registry("docker.io"), "docker.io/library/pause:latest", nil},
		{"mirror.example/library/pause", registry("index.docker.io"), "docker.io/library/pause:latest", nil},
		{"mirror.example/a/b:v1@" + emptyDigest, registry("docker.io"), "docker.io/a/b:v1@" + emptyDigest, nil},
		{"pause", registry("mirror"), `registry "mirror": byte 0: would be read as part of the repository; write localhost, or a host with a dot, a port or an upper-case letter`, reference.ErrNotHost},
		{"pause", registry("https://mirror.example"), `registry "https://mirror.example": byte 6: scheme; leave it out: a name begins with the registry`, reference.ErrScheme},
		{"pause", registry("mirror.example/path"), `registry "mirror.example/path": byte 14: character not allowed`, reference.ErrCharacter},
		{"pause", registry(""), `registry "": byte 0: missing`, reference.ErrMissing},
		{"mirror.example/" + long + "a", registry("docker.io"), "", reference.ErrTooLong},
		{"pause", arch("amd64"), "docker.io/library/pause-amd64:latest", nil},
		{"docker.io/a/b:v1", arch("arm"), "docker.io/a/b-arm:v1", nil},
		{"pause@" + emptyDigest, arch("amd64"), "", reference.ErrPinned},
		{"pause", arch("$(ARCH)"), "", reference.ErrTemplate},
		{"pause", arch(""), "", reference.ErrMissing},
		{"pause", arch("arm/v7"), `architecture "arm/v7": byte 3: character not allowed`, reference.ErrCharacter},
		{long, arch("arm"), "", reference.ErrTooLong},
	} {
		got, err := tt.change(reference.MustParse(tt.from))
		if tt.err == nil {
			require.NoError(t, err, "%q", tt.from)
			assert.Equal(t, tt.want, got.String())
			assert.Equal(t, reference.MustParse(tt.want), got)
			continue
		}
		require.ErrorIs(t, err, tt.err, "%q", tt.from)
		assert.Zero(t, got)
		if tt.want != "" {
			assert.EqualError(t, err, tt.want)
		}
	}
}

type change = func(reference.Reference) (reference.Reference, error)

func tag(s string) change {
	return func(r reference.Reference) (reference.Reference, error) { return r.WithTag(s) }
}
func untag(r reference.Reference) (reference.Reference, error) { return r.WithoutTag(), nil }
func unpin(r reference.Reference) (reference.Reference, error) { return r.WithoutDigest(), nil }
func pin(d digest.Digest) change {
	return func(r reference.Reference) (reference.Reference, error) { return r.WithDigest(d) }
}
func registry(s string) change {
	return func(r reference.Reference) (reference.Reference, error) { return r.WithRegistry(s) }
}
func arch(s string) change {
	return func(r reference.Reference) (reference.Reference, error) { return r.WithArch(s) }
}

func TestParserFillsInItsDefaults(t *testing.T) {
	ours := reference.Parser{Registry: "registry.example:5000", Namespace: "team/images", Tag: "stable"}
	for _, tt := range []struct {
		p        reference.Parser
		in, want string
	}{
		{ours, "app", "registry.example:5000/team/images/app:stable"},
		{ours, "app:v1", "registry.example:5000/team/images/app:v1"},
		{ours, "app:v1@" + emptyDigest, "registry.example:5000/team/images/app:v1@" + emptyDigest},
		{ours, "app@" + emptyDigest, "registry.example:5000/team/images/app@" + emptyDigest},
		{ours, "a/b", "registry.example:5000/a/b:stable"},
		{ours, "quay.io/app", "quay.io/app:stable"},
		{ours, "registry.example:5000/app", "registry.example:5000/app:stable"},
		{ours, "docker.io/pause", "docker.io/library/pause:stable"},
		{reference.Parser{Registry: "ghcr.io"}, "app", "ghcr.io/app:latest"},
		{reference.Parser{Registry: "ghcr.io"}, strings.Repeat("a", 255), "ghcr.io/" + strings.Repeat("a", 255) + ":latest"},
		{reference.Parser{Registry: "index.docker.io"}, "pause", "docker.io/library/pause:latest"},
		{reference.Parser{Namespace: "team"}, "app", "docker.io/team/app:latest"},
		{reference.Parser{Namespace: "library"}, "app", "docker.io/library/app:latest"},
		{reference.Parser{Tag: "stable"}, "app", "docker.io/library/app:stable"},
		{reference.Parser{Tag: "stable"}, "docker.io/app", "docker.io/library/app:stable"},
	} {
		got, err := tt.p.Parse(tt.in)
		require.NoError(t, err, "%+v %q", tt.p, tt.in)
		assert.Equal(t, reference.MustParse(tt.want), got, "%+v %q: %s", tt.p, tt.in, got)
	}
}

func TestParserRefusesBadDefaults(t *testing.T) {
	for _, tt := range []struct {
		p      reference.Parser
		in     string
		reason error
		text   string
	}{
		{reference.Parser{Registry: "mirror"}, "x", reference.ErrNotHost, `default registry "mirror": byte 0: `},
		{reference.Parser{Registry: "mirror.example/"}, "x", reference.ErrCharacter, `default registry "mirror.example/": byte 14: `},
		{reference.Parser{Namespace: "a/"}, "x", reference.ErrMissing, `default namespace "a/": byte 2: `},
		{reference.Parser{Namespace: "a:b"}, "x", reference.ErrCharacter, `default namespace "a:b": byte 1: `},
		{reference.Parser{Tag: "a:b"}, "x", reference.ErrCharacter, `default tag "a:b": byte 1: `},
		{reference.Parser{Tag: "v1"}, "x:", reference.ErrMissing, `image name "x:": tag at byte 2: `},
		{reference.Parser{Namespace: strings.Repeat("a", 200)}, strings.Repeat("b", 100), reference.ErrTooLong, `image name "`},
		{reference.Parser{}, strings.Repeat("b", 248), reference.ErrTooLong, `image name "`},
	} {
		got, err := tt.p.Parse(tt.in)
		require.ErrorIs(t, err, tt.reason)
		assert.Zero(t, got)
		assert.True(t, strings.HasPrefix(err.Error(), tt.text), "%v", err)
	}
}

func TestCompareSortsByParts(t *testing.T) {
	want := []string{
		"docker.io/a/b:latest", "docker.io/library-x/a:latest", "docker.io/library/a/b:latest", "docker.io/library/z:latest",
		"docker.io/library/z:v1", "docker.io/lic/a:latest", "quay.io/a:latest", "quay.io/a:latest@" + emptyDigest,
	}
	var refs []reference.Reference
	for _, s := range want {
		refs = append(refs, reference.MustParse(s))
	}
	slices.Reverse(refs)
	slices.SortFunc(refs, reference.Reference.Compare)
	var got []string
	for _, r := range refs {
		got = append(got, r.String())
	}
	assert.Equal(t, want, got)
}

func TestSpellingsOfOneImageAreOneMapKey(t *testing.T) {
	m := map[reference.Reference]int{}
	for _, s := range []string{"pause", "library/pause", "docker.io/pause", "index.docker.io/library/pause:latest"} {
		m[reference.MustParse(s)]++
	}
	assert.Equal(t, map[reference.Reference]int{reference.MustParse("pause:latest"): 4}, m)
}

// TestParserSaysWhatWasWritten: CRI is a name that means the same to a runtime with defaults of
// its own.
func TestParserSaysWhatWasWritten(t *testing.T) {
	for _, c := range []struct {
		parser  reference.Parser
		in, cri string
		written reference.Written
	}{
		{reference.Parser{}, "nginx", "nginx:latest", reference.Written{}},
		{reference.Parser{Tag: "stable"}, "nginx", "nginx:stable", reference.Written{}},
		{reference.Parser{Tag: "stable"}, "a.example/nginx", "a.example/nginx:stable", reference.Written{Registry: true}},
		{reference.Parser{Registry: "a.example"}, "nginx", "a.example/nginx:latest", reference.Written{}},
		{reference.Parser{Registry: "a.example"}, "team/app:v1", "a.example/team/app:v1", reference.Written{Tag: true}},
		{reference.Parser{Namespace: "mirror"}, "nginx:1", "docker.io/mirror/nginx:1", reference.Written{Tag: true}},
		{reference.Parser{Registry: "a.example", Tag: "stable"}, "b.example/x:v1", "b.example/x:v1", reference.Written{Registry: true, Tag: true}},
	} {
		ref, written, err := c.parser.ParseWritten(c.in)
		require.NoError(t, err)
		c.written.CRI = c.cri
		assert.Equal(t, c.written, written, c.in)
		assert.Equal(t, ref, reference.MustParse(ref.String()))
	}
	_, _, err := reference.Parser{Registry: "no host"}.ParseWritten("nginx")
	assert.Error(t, err)
}

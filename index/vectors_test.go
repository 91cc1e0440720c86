package index_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// vectors returns the cases of a file, or nil if the file is of another kind.
func vectors[T any](t testing.TB, kind, file string) (cases []T) {
	data, err := os.ReadFile(filepath.Join("testdata", "vectors", file))
	require.NoError(t, err)
	var doc struct {
		Kind  string
		Cases json.RawMessage
	}
	require.NoError(t, json.Unmarshal(data, &doc), file)
	if doc.Kind == kind {
		require.NoError(t, json.Unmarshal(doc.Cases, &cases), file)
		require.NotEmpty(t, cases, file)
	}
	return cases
}

// selectVectors returns all cases of kind select, named by file and case.
func selectVectors(t testing.TB) []selectCase {
	files, err := filepath.Glob(filepath.Join("testdata", "vectors", "*.json"))
	require.NoError(t, err)
	var all []selectCase
	for _, file := range files {
		file = filepath.Base(file)
		for _, c := range vectors[selectCase](t, "select", file) {
			c.Name = strings.TrimSuffix(file, ".json") + "/" + c.Name
			all = append(all, c)
		}
	}
	return all
}

type selectCase struct {
	Name, ContentType string
	Index             json.RawMessage
	Raw               string
	Repeat            *struct {
		Prefix, Unit, Suffix string
		Count                int
	}
	Platform  string
	Strict    bool
	Want      string
	Check     bool `json:"checkConfig"`
	Error     string
	Available []string
}

func (c selectCase) body(t testing.TB) []byte {
	switch {
	case c.Repeat != nil:
		return []byte(c.Repeat.Prefix + strings.Repeat(c.Repeat.Unit, c.Repeat.Count) + c.Repeat.Suffix)
	case c.Raw == "" && c.Index != nil:
		var b bytes.Buffer
		require.NoError(t, json.Compact(&b, c.Index))
		return b.Bytes()
	}
	return []byte(c.Raw)
}

func (c selectCase) run(t testing.TB) (index.Choice, error) {
	doc, err := index.Parse(c.ContentType, c.body(t))
	if err != nil {
		return index.Choice{}, err
	}
	want, err := index.ParsePlatform(c.Platform)
	if err != nil {
		return index.Choice{}, err
	}
	if doc.Manifest != nil {
		root := ocispec.Descriptor{Digest: "self"}
		res, err := index.Resolver{Selector: index.Selector{Strict: c.Strict}}.Resolve(t.Context(), root, doc, want)
		return res.Choice, err
	}
	return index.Selector{Strict: c.Strict}.Select(*doc.Index, want)
}

// TestNoVectorIsLeftOut: no file and no kind of case is left out.
func TestNoVectorIsLeftOut(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "vectors", "*.json"))
	require.NoError(t, err)
	kinds := map[string]int{}
	for _, file := range files {
		for _, kind := range []string{"select", "parse", "normalize", "format", "fallbacks", "windows-compatible", "host", "resolve"} {
			kinds[kind] += len(vectors[json.RawMessage](t, kind, filepath.Base(file)))
		}
	}
	assert.Equal(t, map[string]int{
		"select": 271, "parse": 91, "normalize": 35, "format": 11, "fallbacks": 28, "windows-compatible": 28, "host": 22, "resolve": 17,
	}, kinds)
}

var kindOf = map[string]error{"no-match": index.ErrNoMatch, "invalid": index.ErrInvalid, "invalid-platform": index.ErrPlatform, "not-found": fs.ErrNotExist}

func TestSelectVectors(t *testing.T) {
	cases := selectVectors(t)
	assert.Len(t, cases, 271)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			got, err := c.run(t)
			if c.Error == "" {
				require.NoError(t, err)
				assert.Equal(t, c.Want, string(got.Descriptor.Digest))
				assert.Equal(t, c.Check, got.CheckConfig, "CheckConfig")
				return
			}
			require.ErrorIs(t, err, kindOf[c.Error])
			assert.Zero(t, got)
			var none *index.NoMatchError
			if errors.As(err, &none) {
				var have []string
				for _, p := range none.Have {
					have = append(have, index.FormatPlatform(p))
				}
				assert.Equal(t, c.Available, have)
			}
		})
	}
}

func TestParsePlatformVectors(t *testing.T) {
	cases := vectors[struct {
		Input, Host, Format, Error string
		Want                       ocispec.Platform
	}](t, "parse", "parse.json")
	for _, c := range cases {
		host, err := index.ParsePlatform(c.Host)
		require.NoError(t, err)
		got, err := index.CompletePlatform(c.Input, host)
		if c.Error != "" {
			assert.ErrorIs(t, err, index.ErrPlatform, "%q", c.Input)
			assert.Zero(t, got)
			continue
		}
		if assert.NoError(t, err, "%q", c.Input) {
			assert.Equal(t, c.Want, got, "%q", c.Input)
			assert.Equal(t, c.Format, index.FormatPlatform(got), "%q", c.Input)
		}
		if got, err := index.ParsePlatform(c.Input); strings.Contains(c.Input, "/") {
			assert.Equal(t, c.Want, got, "%q", c.Input)
		} else {
			assert.ErrorIs(t, err, index.ErrPlatform, "%q", c.Input)
		}
	}
}

func TestNormalizeVectors(t *testing.T) {
	cases := vectors[struct{ Input, Want ocispec.Platform }](t, "normalize", "normalize.json")
	for _, c := range cases {
		before := fmt.Sprint(c.Input)
		assert.Equal(t, c.Want, index.Normalize(c.Input), "%v", c.Input)
		assert.Equal(t, c.Want, index.Normalize(c.Want), "%v again", c.Want)
		assert.Equal(t, before, fmt.Sprint(c.Input), "Normalize does not change its input")
	}
}

func TestFormatVectors(t *testing.T) {
	cases := vectors[struct {
		Input ocispec.Platform
		Want  string
	}](t, "format", "format.json")
	for _, c := range cases {
		assert.Equal(t, c.Want, index.FormatPlatform(c.Input), "%v", c.Input)
	}
}

func TestFallbacksVectors(t *testing.T) {
	cases := vectors[struct {
		Platform string
		Want     []string
	}](t, "fallbacks", "fallbacks.json")
	for _, c := range cases {
		p, err := index.ParsePlatform(c.Platform)
		require.NoError(t, err)
		var got []string
		for _, f := range index.Fallbacks(p) {
			got = append(got, index.FormatPlatform(f))
		}
		assert.Equal(t, c.Want, got, c.Platform)
	}
	assert.Nil(t, index.Fallbacks(ocispec.Platform{OS: "linux"}))
}

func TestWindowsVectors(t *testing.T) {
	cases := vectors[struct {
		Host, Image string
		Want        bool
	}](t, "windows-compatible", "windows-compatible.json")
	for _, c := range cases {
		_, ok := index.Selector{}.Match(
			ocispec.Platform{OS: "windows", Architecture: "amd64", OSVersion: c.Image},
			ocispec.Platform{OS: "windows", Architecture: "amd64", OSVersion: c.Host})
		assert.Equal(t, c.Want, ok, "host %q, image %q", c.Host, c.Image)
	}
}

func TestResolveVectors(t *testing.T) {
	cases := vectors[struct {
		Name, Root, RootContentType string
		RootDigest                  digest.Digest
		Blobs                       map[digest.Digest]string
		Platform, Error             string
		Want                        digest.Digest
	}](t, "resolve", "resolve.json")
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			want, err := index.ParsePlatform(c.Platform)
			require.NoError(t, err)
			doc, err := index.Parse(c.RootContentType, []byte(c.Root))
			require.NoError(t, err)
			root := ocispec.Descriptor{MediaType: c.RootContentType, Digest: c.RootDigest, Size: int64(len(c.Root))}
			fetched := 0
			got, err := index.Resolver{Fetch: func(_ context.Context, d ocispec.Descriptor) ([]byte, error) {
				fetched++
				body, ok := c.Blobs[d.Digest]
				if !ok {
					return nil, fmt.Errorf("blob %s: %w", d.Digest, fs.ErrNotExist)
				}
				return []byte(body), nil
			}}.Resolve(t.Context(), root, doc, want)
			assert.LessOrEqual(t, fetched, 10)
			if c.Error != "" {
				assert.ErrorIs(t, err, kindOf[c.Error])
				assert.Zero(t, got)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.Want, got.Descriptor.Digest)
			assert.NotNil(t, got.Manifest)
			assert.Equal(t, doc.Manifest != nil, got.CheckConfig)
		})
	}
}

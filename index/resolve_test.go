package index_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A shelf holds content by digest and counts the calls of fetch.
type shelf struct {
	blobs   map[digest.Digest][]byte
	fetched int
}

func (s *shelf) put(mediaType string, v any) ocispec.Descriptor {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	if s.blobs == nil {
		s.blobs = map[digest.Digest][]byte{}
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
	s.blobs[d.Digest] = body
	return d
}

func (s *shelf) image(p ocispec.Platform) ocispec.Descriptor {
	config := s.put(ocispec.MediaTypeImageConfig, ocispec.Image{Platform: p})
	m := ocispec.Manifest{MediaType: typeManifest, Config: config, Layers: []ocispec.Descriptor{}}
	m.SchemaVersion = 2
	return s.put(typeManifest, m)
}

func (s *shelf) index(entries ...ocispec.Descriptor) ocispec.Descriptor {
	idx := ocispec.Index{MediaType: typeIndex, Manifests: entries}
	idx.SchemaVersion = 2
	if entries == nil {
		idx.Manifests = []ocispec.Descriptor{}
	}
	return s.put(typeIndex, idx)
}

func (s *shelf) fetch(_ context.Context, d ocispec.Descriptor) ([]byte, error) {
	s.fetched++
	if body, ok := s.blobs[d.Digest]; ok {
		return body, nil
	}
	return nil, fs.ErrNotExist
}

func (s *shelf) resolve(t *testing.T, root ocispec.Descriptor, want string) (index.Resolved, error) {
	p, err := index.ParsePlatform(want)
	require.NoError(t, err)
	doc, err := index.Parse(root.MediaType, s.blobs[root.Digest])
	require.NoError(t, err)
	s.fetched = 0
	return index.Resolver{Fetch: s.fetch}.Resolve(t.Context(), root, doc, p)
}

func on(d ocispec.Descriptor, os, arch string) ocispec.Descriptor {
	d.Platform = &ocispec.Platform{OS: os, Architecture: arch}
	return d
}

func TestResolveFollowsNestedIndexes(t *testing.T) {
	var s shelf
	amd64 := on(s.image(ocispec.Platform{OS: "linux", Architecture: "amd64"}), "linux", "amd64")
	inner := s.index(amd64)
	root := s.index(s.index(inner))
	got, err := s.resolve(t, root, "linux/amd64/v3")
	require.NoError(t, err)
	assert.Equal(t, amd64.Digest, got.Descriptor.Digest)
	assert.Equal(t, "linux/amd64", index.FormatPlatform(got.Platform))
	assert.False(t, got.Exact, "plain amd64 for v3")
	require.Len(t, got.Through, 2)
	assert.Equal(t, inner.Digest, got.Through[1].Digest)
	assert.Equal(t, 3, s.fetched)

	// The error names the platforms of the nested indexes.
	_, err = s.resolve(t, root, "linux/riscv64")
	assert.EqualError(t, err, "no match for linux/riscv64; available: linux/amd64")
}

func TestResolveLimitsDepth(t *testing.T) {
	var s shelf
	next := on(s.image(ocispec.Platform{OS: "linux", Architecture: "amd64"}), "linux", "amd64")
	var indexes []ocispec.Descriptor
	for range 64 {
		next = s.index(next)
		indexes = append(indexes, next)
	}
	_, err := s.resolve(t, indexes[index.MaxDepth], "linux/amd64")
	assert.NoError(t, err, "%d levels below the first", index.MaxDepth)
	for _, root := range []ocispec.Descriptor{indexes[index.MaxDepth+1], indexes[63]} {
		_, err = s.resolve(t, root, "linux/amd64")
		var bad *index.InvalidError
		require.ErrorAs(t, err, &bad)
		assert.Equal(t, index.ErrTooDeep, bad.Reason)
		assert.Equal(t, index.MaxDepth, s.fetched)
	}
}

func TestResolveLimitsDocuments(t *testing.T) {
	var s shelf
	var entries []ocispec.Descriptor
	for i := range 1000 {
		entries = append(entries, s.image(ocispec.Platform{OS: "linux", Architecture: "a" + strconv.Itoa(i)}))
	}
	_, err := s.resolve(t, s.index(entries...), "linux/amd64")
	var bad *index.InvalidError
	require.ErrorAs(t, err, &bad)
	assert.Equal(t, index.ErrTooDeep, bad.Reason)
	assert.Equal(t, index.MaxDocuments, s.fetched)

	// An index that is listed twice is walked once.
	dead := s.index(on(s.image(ocispec.Platform{OS: "linux", Architecture: "arm"}), "linux", "arm"))
	_, err = s.resolve(t, s.index(dead, dead, dead, s.index(dead)), "linux/amd64")
	assert.ErrorIs(t, err, index.ErrNoMatch)
	assert.Equal(t, 2, s.fetched)
}

func TestConfigDecidesForAnEntryWithoutPlatform(t *testing.T) {
	var s shelf
	arm := s.image(ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v6"})
	amd64 := s.image(ocispec.Platform{OS: "linux", Architecture: "amd64"})
	nothing := s.image(ocispec.Platform{})
	helm := ocispec.Manifest{MediaType: typeManifest, Config: s.put("application/vnd.cncf.helm.config.v1+json", 1), Layers: []ocispec.Descriptor{}}
	helm.SchemaVersion = 2
	root := s.index(s.put(typeManifest, helm), nothing, amd64, arm)

	got, err := s.resolve(t, root, "linux/arm/v7")
	require.NoError(t, err)
	assert.Equal(t, arm.Digest, got.Descriptor.Digest)
	assert.False(t, got.Exact)
	assert.False(t, got.CheckConfig, "Resolve has compared the config")
	assert.Equal(t, "linux/arm/v6", index.FormatPlatform(got.Platform))

	_, err = s.resolve(t, root, "linux/s390x")
	assert.EqualError(t, err, "no match for linux/s390x; available: linux/amd64, linux/arm/v6")
}

// TestAcceptIsCalledForEachCandidate: Accept is called for each candidate in turn, with the indexes that
// led to it. A candidate that Fetch skips is passed over.
func TestAcceptIsCalledForEachCandidate(t *testing.T) {
	var s shelf
	linux := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	image := s.image(linux)
	absent := on(ocispec.Descriptor{MediaType: typeManifest, Digest: digest.FromString("absent"), Size: 6}, "linux", "amd64")
	inner := s.index(image)
	root := s.index(absent, on(image, "linux", "amd64"), inner)
	doc, err := index.Parse(root.MediaType, s.blobs[root.Digest])
	require.NoError(t, err)
	var asked []index.Resolved
	answer, fails := false, error(nil)
	resolver := index.Resolver{
		Fetch: func(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
			body, err := s.fetch(ctx, d)
			if err != nil {
				err = fmt.Errorf("%w: %w", index.ErrSkip, err)
			}
			return body, err
		},
		Accept: func(_ context.Context, r index.Resolved) (bool, error) {
			asked = append(asked, r)
			return answer && r.CheckConfig, fails
		},
	}
	_, err = resolver.Resolve(t.Context(), root, doc, linux)
	assert.EqualError(t, err, "no match for linux/amd64; available: linux/amd64")
	require.Len(t, asked, 2)
	assert.Equal(t, linux, asked[0].Platform)
	assert.Empty(t, asked[0].Through)
	assert.True(t, asked[1].CheckConfig, "the entry has no platform")
	require.Len(t, asked[1].Through, 1)
	assert.Equal(t, inner.Digest, asked[1].Through[0].Digest)

	answer = true
	got, err := resolver.Resolve(t.Context(), root, doc, linux)
	require.NoError(t, err)
	assert.Equal(t, asked[1], got)

	fails = fs.ErrPermission
	asked = nil
	_, err = resolver.Resolve(t.Context(), root, doc, linux)
	assert.Equal(t, fs.ErrPermission, err)
	assert.Len(t, asked, 1)

	// Accept is also called for a manifest without an index, and with any platform.
	fails = nil
	doc, err = index.Parse(image.MediaType, s.blobs[image.Digest])
	require.NoError(t, err)
	got, err = resolver.Resolve(t.Context(), image, doc, ocispec.Platform{})
	require.NoError(t, err)
	assert.Equal(t, image, got.Descriptor)
	answer = false
	_, err = resolver.Resolve(t.Context(), image, doc, linux)
	assert.ErrorIs(t, err, index.ErrNoMatch)
}

func TestResolveRefusesWhatDoesNotFitItsDescriptor(t *testing.T) {
	linux := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	tests := []struct {
		name  string
		index func(s *shelf) ocispec.Descriptor
		rule  index.Reason
	}{
		{"bytes of another digest", func(s *shelf) ocispec.Descriptor {
			d := on(s.image(linux), "linux", "amd64")
			body := append([]byte(nil), s.blobs[d.Digest]...)
			body[len(body)-2] ^= 1
			s.blobs[d.Digest] = body
			return s.index(d)
		}, index.ErrDigestMismatch},
		{"other size", func(s *shelf) ocispec.Descriptor {
			d := on(s.image(linux), "linux", "amd64")
			d.Size++
			return s.index(d)
		}, index.ErrSizeMismatch},
		{"size over the limit", func(s *shelf) ocispec.Descriptor {
			d := on(s.image(linux), "linux", "amd64")
			d.Size = index.MaxSize + 1
			return s.index(d)
		}, index.ErrTooLarge},
		{"bad digest", func(s *shelf) ocispec.Descriptor {
			d := on(s.image(linux), "linux", "amd64")
			d.Digest = "sha256:../../tags/list"
			return s.index(d)
		}, index.ErrBadDigest},
		{"index that is called a manifest", func(s *shelf) ocispec.Descriptor {
			d := on(s.index(), "linux", "amd64")
			d.MediaType = typeManifest
			return s.index(d)
		}, index.ErrBadManifest},
		{"config that is not JSON", func(s *shelf) ocispec.Descriptor {
			m := ocispec.Manifest{MediaType: typeManifest, Config: s.put(ocispec.MediaTypeImageConfig, "text"), Layers: []ocispec.Descriptor{}}
			m.SchemaVersion = 2
			return s.index(s.put(typeManifest, m))
		}, index.ErrBadManifest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s shelf
			got, err := s.resolve(t, tt.index(&s), "linux/amd64")
			var bad *index.InvalidError
			require.ErrorAs(t, err, &bad)
			assert.Equal(t, tt.rule, bad.Reason, bad.Detail)
			assert.Zero(t, got)
		})
	}
}

func TestResolveReturnsTheErrorOfFetch(t *testing.T) {
	var s shelf
	root := s.index(on(s.image(ocispec.Platform{}), "linux", "amd64"))
	doc, err := index.Parse(typeIndex, s.blobs[root.Digest])
	require.NoError(t, err)
	boom := errors.New("boom")
	_, err = index.Resolver{Fetch: func(context.Context, ocispec.Descriptor) ([]byte, error) { return nil, boom }}.Resolve(t.Context(), root, doc, ocispec.Platform{OS: "linux", Architecture: "amd64"})
	assert.ErrorIs(t, err, boom)
	_, err = index.Resolver{Fetch: s.fetch}.Resolve(t.Context(), root, doc, ocispec.Platform{OS: "linux"})
	assert.ErrorIs(t, err, index.ErrPlatform)
}

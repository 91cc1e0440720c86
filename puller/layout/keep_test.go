package layout_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// prunedAtOnce is a PruneConfig that removes everything that is not in use.
func prunedAtOnce(keep ...digest.Digest) layout.PruneConfig {
	return layout.PruneConfig{MinAge: -1, Keep: keep}
}

// missing returns which blobs of an image are not stored.
func missing(t *testing.T, l *layout.Layout, img *testImage) (gone []digest.Digest) {
	for _, desc := range img.all {
		if !must(l.Has(t.Context(), desc)) {
			gone = append(gone, desc.Digest)
		}
	}
	return gone
}

// withoutAName returns a layout in which the tag of an image has moved to another image. Both
// share a layer with a third one.
func withoutAName(t *testing.T, l *layout.Layout) (former, now, third *testImage) {
	former, now = newTestImage(t, "registry.example/app:v1", 1, 1000, 300<<10), newTestImage(t, "registry.example/app:v1", 2, 100)
	third = newTestImage(t, "registry.example/third:v1", 1, 1000, 300<<10, 70) // with the layers of former
	for _, img := range []*testImage{former, now, third} {
		require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	}
	entries := must(l.List(t.Context()))
	require.Len(t, entries, 2)
	for _, e := range entries {
		require.NotEqual(t, former.manifest.Digest, e.Manifest.Digest)
	}
	return former, now, third
}

// What is to be kept stays without a name, in every kind of removal, and does not count as
// freed. A manifest keeps its parts, and an index its stored manifest too.
func TestContentToKeepStaysWithoutAName(t *testing.T) {
	for what, root := range map[string]func(*testImage) ocispec.Descriptor{
		"a manifest": func(img *testImage) ocispec.Descriptor { return img.manifest },
		"an index":   func(img *testImage) ocispec.Descriptor { return img.index },
	} {
		t.Run(what, func(t *testing.T) {
			l := openTest(t, t.TempDir())
			former, now, third := withoutAName(t, l)
			keep := []digest.Digest{digest.FromString("not stored"), root(former).Digest, root(former).Digest}
			var want []digest.Digest
			if what == "a manifest" {
				want = []digest.Digest{former.index.Digest} // nothing that is kept leads to it
			}
			removed, err := l.Prune(t.Context(), prunedAtOnce(keep...))
			require.NoError(t, err)
			assert.Len(t, want, removed.Blobs)
			assert.Equal(t, want, missing(t, l, former))

			third0 := must(l.Lookup(t.Context(), third.ref))
			entries := must(l.List(t.Context()))
			own := int64(0)
			for _, desc := range third.all {
				if former.data[desc.Digest] == nil {
					own += desc.Size
				}
			}
			require.Equal(t, third.ref, entries[1].Ref)
			removed, err = l.RemoveImage(t.Context(), entries[1:], keep)
			require.NoError(t, err)
			assert.Equal(t, own, removed.Bytes, "the shared layers stay and do not count")
			assert.Equal(t, want, missing(t, l, former))
			assert.False(t, must(l.Has(t.Context(), third0)))

			removed, err = l.Remove(t.Context(), now.ref, root(former).Digest, root(now).Digest)
			require.NoError(t, err)
			assert.Equal(t, len(want), removed.Blobs, "the image itself is to be kept, without its name")
			assert.Empty(t, must(l.List(t.Context())))
			_, err = l.Prune(t.Context(), prunedAtOnce(keep...))
			require.NoError(t, err)
			assert.Equal(t, want, missing(t, l, former))
			assert.Len(t, missing(t, l, now), len(now.all))

			removed, err = l.Prune(t.Context(), prunedAtOnce())
			require.NoError(t, err)
			assert.Equal(t, len(former.all)-len(want), removed.Blobs, "it is not in use any more")
		})
	}
}

// RemoveImage removes the names of an image that is to be kept, and none of its content.
func TestRemoveImageOfContentToKeep(t *testing.T) {
	l := openTest(t, t.TempDir())
	img := newTestImage(t, "registry.example/app:v1", 1, 1000)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	removed, err := l.RemoveImage(t.Context(), must(l.List(t.Context())), []digest.Digest{img.index.Digest})
	require.NoError(t, err)
	assert.Zero(t, removed)
	assert.Empty(t, must(l.List(t.Context())))
	assert.Empty(t, missing(t, l, img))
	require.NoError(t, l.Tag(t.Context(), img.ref, img.index))
	requirePulled(t, l, img, "its name is back")
}

// If the manifest that is to be kept is damaged, or its digest is not valid, nothing is removed.
// Remove removes only the name.
func TestNothingIsRemovedIfContentToKeepIsNotKnown(t *testing.T) {
	damages := map[string]func(*layout.Layout, *testImage){
		"a changed bit":                 func(l *layout.Layout, img *testImage) { flip(t, l, img.manifest) },
		"a changed bit and no new time": func(l *layout.Layout, img *testImage) { rot(t, l, img.manifest) },
		"a shorter file": func(l *layout.Layout, img *testImage) {
			require.NoError(t, os.Truncate(pathOf(l, img.manifest), 100))
		},
		"a much longer file": func(l *layout.Layout, img *testImage) {
			require.NoError(t, os.Truncate(pathOf(l, img.manifest), ocilayout.MaxDocument+1))
		},
		"a directory": func(l *layout.Layout, img *testImage) {
			require.NoError(t, os.Remove(pathOf(l, img.manifest)))
			require.NoError(t, os.Mkdir(pathOf(l, img.manifest), 0o755))
		},
	}
	for what, damage := range damages {
		t.Run(what, func(t *testing.T) {
			l := openTest(t, t.TempDir())
			former, now, third := withoutAName(t, l)
			damage(l, former)
			keep := former.manifest.Digest
			fails := func(removed content.Removal, err error) {
				t.Helper()
				require.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
				assert.ErrorContains(t, err, string(keep))
				assert.ErrorContains(t, err, l.Dir())
				assert.Zero(t, removed)
			}
			entries := must(l.List(t.Context()))
			fails(l.Prune(t.Context(), prunedAtOnce(keep)))
			fails(l.Prune(t.Context(), prunedAtOnce(former.index.Digest))) // its index leads to it
			fails(l.RemoveImage(t.Context(), entries[1:], []digest.Digest{keep}))
			requireKept(t, l, third)
			fails(l.Remove(t.Context(), third.ref, keep))
			_, err := l.Lookup(t.Context(), third.ref)
			assert.ErrorIs(t, err, os.ErrNotExist)
			assert.Empty(t, missing(t, l, now))
			for _, desc := range former.all {
				if desc.Digest != keep {
					assert.True(t, must(l.Has(t.Context(), desc)), desc.Digest)
				}
			}
		})
	}
	l := openTest(t, t.TempDir())
	_, now, _ := withoutAName(t, l)
	before := len(must(os.ReadDir(l.Dir() + "/blobs/sha256")))
	for _, bad := range []digest.Digest{"", "sha256:", "sha256:../../../../etc/passwd", "md5:d41d8cd98f00b204e9800998ecf8427e", digest.Digest("sha256:" + strings.Repeat("A", 64))} {
		_, err := l.Prune(t.Context(), prunedAtOnce(now.manifest.Digest, bad))
		assert.Equal(t, content.ErrBadDigest, content.ReasonOf(err), bad)
		_, err = l.RemoveImage(t.Context(), must(l.List(t.Context())), []digest.Digest{bad})
		assert.Equal(t, content.ErrBadDigest, content.ReasonOf(err), bad)
		_, err = l.Remove(t.Context(), now.ref, bad)
		assert.Equal(t, content.ErrBadDigest, content.ReasonOf(err), bad)
	}
	assert.Len(t, must(os.ReadDir(l.Dir()+"/blobs/sha256")), before)
	assert.Len(t, must(l.List(t.Context())), 2)
}

// requireKept requires that the name and the content of an image are there.
func requireKept(t *testing.T, l *layout.Layout, img *testImage) {
	t.Helper()
	_, err := l.Lookup(t.Context(), img.ref)
	require.NoError(t, err)
	require.Empty(t, missing(t, l, img))
}

// The digest of a config or of a layer keeps only this blob, whatever its size. That of a config
// can be the ID of an image.
func TestAConfigOrALayerToKeepKeepsItself(t *testing.T) {
	l := openTest(t, t.TempDir())
	former, _, third := withoutAName(t, l)
	config := former.all[0]
	_, err := l.Remove(t.Context(), third.ref, config.Digest)
	require.NoError(t, err)
	assert.NotEmpty(t, missing(t, l, third))
	_, err = l.Prune(t.Context(), prunedAtOnce(config.Digest))
	require.NoError(t, err)
	assert.Len(t, missing(t, l, former), len(former.all)-1)
	assert.True(t, must(l.Has(t.Context(), config)))

	for _, size := range []int{5000, ocilayout.MaxDocument + 1} {
		data, layer := blobOf(9, size)
		store(t, l, layer, data)
		removed, err := l.Prune(t.Context(), prunedAtOnce(config.Digest, layer.Digest))
		require.NoError(t, err)
		assert.Zero(t, removed)
		flip(t, l, layer)
		_, err = l.Prune(t.Context(), prunedAtOnce(layer.Digest))
		assert.ErrorContains(t, err, string(layer.Digest)+" cannot be read")
		removed, err = l.Prune(t.Context(), prunedAtOnce(config.Digest))
		require.NoError(t, err)
		assert.Equal(t, 1, removed.Blobs)
	}
}

// An image can list any blob as a manifest: a layer of another image, or one that its publisher
// has made for this. It does not stop the removal of other content, and takes nothing away.
func TestAnImageThatListsAnyBlobAsAManifest(t *testing.T) {
	victim := newTestImage(t, "registry.example/victim:v1", 1, 1000, ocilayout.MaxDocument+1)
	padding := strings.Repeat(" ", ocilayout.MaxDocument)
	for what, data := range map[string][]byte{
		"a config":                      victim.data[victim.all[0].Digest],
		"a layer":                       victim.data[victim.all[1].Digest],
		"a large layer":                 victim.data[victim.all[2].Digest],
		"nothing":                       {},
		"JSON of another kind":          []byte(`{"config":5}`),
		"not quite JSON":                []byte(`{"config":{`),
		"another JSON value":            []byte(`[1]`),
		"a large JSON text":             []byte(`{"config":5,"x":"` + padding + `"}`),
		"a large text":                  []byte("x" + padding),
		"a large text with white space": []byte(padding + "x"),
	} {
		for _, kind := range []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex} {
			for _, wrong := range []int64{0, 1} {
				t.Run(fmt.Sprintf("%s as %s, wrong size: %v", what, kind, wrong > 0), func(t *testing.T) {
					l := must(openMem(disktest.New().Process()))
					other := newTestImage(t, "registry.example/other:v1", 2, 100)
					for _, img := range []*testImage{victim, other} {
						require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
					}
					blob := descOf(kind, data)
					if !must(l.Has(t.Context(), blob)) {
						store(t, l, blob, data)
					}
					index := fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, kind, blob.Digest, blob.Size+wrong)
					desc := descOf(ocispec.MediaTypeImageIndex, index)
					store(t, l, desc, index)
					require.NoError(t, l.Tag(t.Context(), reference.MustParse("registry.example/stranger:v1"), desc))
					garbage, garbageDesc := blobOf(9, 5000)
					store(t, l, garbageDesc, garbage)

					removed, err := l.Prune(t.Context(), prunedAtOnce(victim.index.Digest))
					require.NoError(t, err)
					assert.Equal(t, content.Removal{Blobs: 1, Bytes: 5000}, removed)
					entries := must(l.List(t.Context()))
					require.Len(t, entries, 3)
					require.Equal(t, other.ref, entries[1].Ref)
					removed, err = l.RemoveImage(t.Context(), entries[1:2], []digest.Digest{victim.index.Digest, desc.Digest})
					require.NoError(t, err)
					assert.Equal(t, len(other.all), removed.Blobs)
					_, err = l.Remove(t.Context(), victim.ref, victim.index.Digest)
					require.NoError(t, err)
					assert.Empty(t, missing(t, l, victim))
					assert.True(t, must(l.Has(t.Context(), blob)))
					assert.True(t, must(l.Has(t.Context(), desc)))
				})
			}
		}
	}
}

// A manifest or an index that this package does not read, and another program may, keeps all
// content whose digest is in it. The digest can be where two reads meet.
func TestAManifestOfAnotherKindKeepsWhatItMentions(t *testing.T) {
	for _, padding := range []int{0, 1<<20 - 200, 1<<20 - 160, 1<<20 - 100, 2<<20 - 300, ocilayout.MaxDocument + 1} {
		t.Run(fmt.Sprint(padding), func(t *testing.T) {
			l := openTest(t, t.TempDir())
			add := func(mediaType, data string) string {
				desc := descOf(mediaType, []byte(data))
				store(t, l, desc, []byte(data))
				return string(desc.Digest)
			}
			space := strings.Repeat(" ", padding)
			config, layer := add(ocispec.MediaTypeImageConfig, "{}"), add(ocispec.MediaTypeImageLayer, "a layer")
			manifest := add(ocispec.MediaTypeImageManifest, fmt.Sprintf(` {%s"config":{"digest":%q,"size":"2"},"layers":[{"digest":%q,"size":"7"}]}`, space, config, layer))
			index := fmt.Sprintf(`{"schemaVersion":2,%s"manifests":[{"digest":%q,"platform":5},{"digest":"sha256:%s"}]}`, space, manifest, strings.Repeat("0", 64))
			desc := descOf(ocispec.MediaTypeImageIndex, []byte(index))
			store(t, l, desc, []byte(index))
			require.NoError(t, l.Tag(t.Context(), reference.MustParse("registry.example/app:v1"), desc))
			garbage, garbageDesc := blobOf(9, 5000)
			store(t, l, garbageDesc, garbage)
			removed, err := l.Prune(t.Context(), prunedAtOnce())
			require.NoError(t, err)
			assert.Equal(t, 1, removed.Blobs)
			assert.Len(t, must(os.ReadDir(l.Dir()+"/blobs/sha256")), 4)
			removed, err = l.RemoveImage(t.Context(), must(l.List(t.Context())), nil)
			require.NoError(t, err)
			assert.Equal(t, 4, removed.Blobs)
		})
	}
}

// The manifest of an artifact, which former versions of oras wrote, keeps its blobs.
func TestAnArtifactKeepsItsBlobs(t *testing.T) {
	l := openTest(t, t.TempDir())
	data, blob := blobOf(1, 5000)
	store(t, l, blob, data)
	const kind = "application/vnd.oci.artifact.manifest.v1+json"
	manifest := fmt.Appendf(nil, `{"mediaType":%q,"artifactType":"a/b","blobs":[{"mediaType":"a/b","digest":%q,"size":5000}]}`, kind, blob.Digest)
	desc := descOf(kind, manifest)
	store(t, l, desc, manifest)
	require.NoError(t, l.Tag(t.Context(), reference.MustParse("registry.example/artifact:v1"), desc))
	removed, err := l.Prune(t.Context(), prunedAtOnce())
	require.NoError(t, err)
	assert.Zero(t, removed)
	removed, err = l.RemoveImage(t.Context(), must(l.List(t.Context())), nil)
	require.NoError(t, err)
	assert.Equal(t, 2, removed.Blobs)
}

// An image that lists the manifest of another one as a layer, or with a wrong size, does not
// take the other one's content away, whichever is looked at first.
func TestAnImageThatListsTheManifestOfAnother(t *testing.T) {
	for _, names := range [][2]string{{"registry.example/a:v1", "registry.example/b:v1"}, {"registry.example/b:v1", "registry.example/a:v1"}} {
		for what, change := range map[string]func(*ocispec.Descriptor){
			"as a layer":        func(d *ocispec.Descriptor) { d.MediaType = ocispec.MediaTypeImageLayerGzip },
			"with a wrong size": func(d *ocispec.Descriptor) { d.Size++ },
			"with a size of -1": func(d *ocispec.Descriptor) { d.Size = -1 },
		} {
			for _, named := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, %s first, with a name: %v", what, names[0], named), func(t *testing.T) {
					l := openTest(t, t.TempDir())
					victim := newTestImage(t, names[0], 1, 1000)
					listed := victim.manifest
					listed.Platform = nil
					change(&listed)
					index := fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, listed.MediaType, listed.Digest, listed.Size)
					other := descOf(ocispec.MediaTypeImageIndex, index)
					store(t, l, other, index)
					otherRef := reference.MustParse(names[1])
					if names[1] < names[0] {
						require.NoError(t, l.Tag(t.Context(), otherRef, other))
					}
					require.NoError(t, (&testPuller{l: l}).pull(t.Context(), victim))
					if names[1] > names[0] {
						require.NoError(t, l.Tag(t.Context(), otherRef, other))
					}
					var keep []digest.Digest
					if !named {
						keep = append(keep, victim.index.Digest)
						_, err := l.Remove(t.Context(), victim.ref, keep...)
						require.NoError(t, err)
					}
					removed, err := l.Prune(t.Context(), prunedAtOnce(keep...))
					require.NoError(t, err)
					assert.Zero(t, removed)
					assert.Empty(t, missing(t, l, victim))
					if what == "as a layer" {
						return
					}
					if named {
						_, err := l.Remove(t.Context(), victim.ref)
						require.NoError(t, err)
					}
					_, err = l.Prune(t.Context(), prunedAtOnce())
					require.NoError(t, err)
					assert.Equal(t, []digest.Digest{victim.index.Digest}, missing(t, l, victim), "the other image leads to the rest")
				})
			}
		}
	}
}

// Each manifest is opened once in a removal, also if it has names and is to be kept.
func TestEachManifestToKeepIsReadOnce(t *testing.T) {
	var opened atomic.Int64
	count := false
	mem := disktest.New()
	l := must(layout.OpenDisk("mem", disktest.Before(mem.Process(), func(op, name string) error {
		if count && op == "open" && strings.HasPrefix(name, "blobs/") {
			opened.Add(1)
		}
		return nil
	}), layout.Config{}))
	const images = 3000
	var keep []digest.Digest
	for i := range images {
		manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"n":%d}`, ocispec.MediaTypeImageManifest, i)
		desc := descOf(ocispec.MediaTypeImageManifest, manifest)
		store(t, l, desc, manifest)
		keep = append(keep, desc.Digest)
		if i < 3 {
			require.NoError(t, l.Tag(t.Context(), reference.MustParse(fmt.Sprintf("registry.example/app:v%d", i)), desc))
		}
	}
	keep = append(keep, keep...)
	count = true
	removed, err := l.Prune(t.Context(), prunedAtOnce(keep...))
	require.NoError(t, err)
	assert.Zero(t, removed)
	assert.EqualValues(t, images, opened.Load())
	opened.Store(0)
	_, err = l.RemoveImage(t.Context(), must(l.List(t.Context()))[:1], keep)
	require.NoError(t, err)
	assert.EqualValues(t, images+1, opened.Load(), "and the manifest of the removed image once more")
}

// A file that cannot be read ends the removal before anything is removed.
func TestContentToKeepThatCannotBeRead(t *testing.T) {
	broken := errors.New("input/output error")
	var fail atomic.Pointer[string]
	mem := disktest.New()
	l := must(layout.OpenDisk("mem", disktest.Before(mem.Process(), func(op, name string) error {
		if f := fail.Load(); f != nil && name == *f && (op == "open" || op == "lstat") {
			return broken
		}
		return nil
	}), layout.Config{}))
	former, _, third := withoutAName(t, l)
	name := ocilayout.BlobName(former.manifest.Digest)
	fail.Store(&name)
	removed, err := l.Prune(t.Context(), prunedAtOnce(former.manifest.Digest))
	assert.ErrorIs(t, err, broken)
	assert.Zero(t, removed)
	removed, err = l.RemoveImage(t.Context(), must(l.List(t.Context()))[1:], []digest.Digest{former.index.Digest})
	assert.ErrorIs(t, err, broken)
	assert.Zero(t, removed)
	fail.Store(nil)
	assert.Empty(t, missing(t, l, former))
	requireKept(t, l, third)
}

// Tags move, images are removed and power is lost, in a random order. Images in use stay whole,
// and at the end nothing is left over.
func TestImagesInUseStayWhole(t *testing.T) {
	var images []*testImage
	for i := range 6 { // pairs share layers
		images = append(images, newTestImage(t, "registry.example/app:v1", i/2, []int{100, 3000, 50}[:2+i%2]...))
	}
	for seed := range rounds.Of(60) {
		random := rand.New(rand.NewPCG(uint64(seed), 1))
		mem := disktest.New()
		l := must(openMem(mem.Process()))
		inUse := map[digest.Digest]*testImage{}
		for step := range 60 {
			keep := slices.Collect(maps.Keys(inUse))
			what := fmt.Sprintf("seed %d, step %d", seed, step)
			img := *images[random.IntN(len(images))]
			img.ref = reference.MustParse(fmt.Sprintf("registry.example/app:v%d", random.IntN(3)))
			switch random.IntN(9) {
			case 0, 1, 2:
				require.NoError(t, (&testPuller{l: l}).pull(t.Context(), &img), what)
				root := []ocispec.Descriptor{img.manifest, img.index}[random.IntN(2)]
				if random.IntN(2) == 0 {
					inUse[root.Digest] = &img
				}
			case 3:
				for d := range inUse {
					delete(inUse, d)
					break
				}
			case 4, 5:
				if entries := must(l.List(t.Context())); len(entries) > 0 {
					d := entries[random.IntN(len(entries))].Manifest.Digest
					entries = slices.DeleteFunc(entries, func(e content.Entry) bool { return e.Manifest.Digest != d })
					_, err := l.RemoveImage(t.Context(), entries, keep)
					require.NoError(t, err, what)
				}
			case 6:
				if _, err := l.Remove(t.Context(), img.ref, keep...); err != nil {
					require.ErrorIs(t, err, os.ErrNotExist, what)
				}
			case 7:
				_, err := l.Prune(t.Context(), prunedAtOnce(keep...))
				require.NoError(t, err, what)
			case 8:
				mem = mem.Crash(disktest.KeepSome(random.Uint64()))
				l = must(openMem(mem.Process()))
			}
			for root, img := range inUse {
				for _, desc := range img.all {
					if desc.Digest != img.index.Digest || root == desc.Digest {
						require.True(t, must(l.Has(t.Context(), desc)), "%s: %s", what, desc.Digest)
					}
				}
			}
		}
		for _, e := range must(l.List(t.Context())) {
			_, err := l.Remove(t.Context(), e.Ref)
			require.NoError(t, err)
		}
		_, err := l.Prune(t.Context(), prunedAtOnce())
		require.NoError(t, err)
		assert.Empty(t, must(mem.Process().ReadDir("blobs/sha256")), "seed %d", seed)
	}
}

// Power is lost at every operation of a removal. What is to be kept is whole, and the next removal
// leaves nothing but this.
func TestLosePowerInARemovalThatKeepsContent(t *testing.T) {
	former, now, third := newTestImage(t, "registry.example/app:v1", 1, 100, 3000), newTestImage(t, "registry.example/app:v1", 2, 100), newTestImage(t, "registry.example/third:v1", 1, 100, 3000, 70)
	keep := []digest.Digest{former.index.Digest}
	for done, k := false, int64(0); !done; k++ {
		for seed := range uint64(3) {
			mem := disktest.New()
			d := newSwitchDisk(mem.Process())
			l := must(openMem(d))
			for _, img := range []*testImage{former, now, third} {
				require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
			}
			entries := must(l.List(t.Context()))
			d.set(diesAfter(k))
			_, err := l.RemoveImage(t.Context(), entries[1:], keep)
			if err == nil {
				_, err = l.Prune(t.Context(), prunedAtOnce(keep...))
			}
			done = err == nil
			l = must(openMem(mem.Crash(disktest.KeepSome(seed)).Process()))
			require.Empty(t, missing(t, l, former), "operation %d, seed %d", k, seed)
			requirePulled(t, l, now, "now")
			if _, err := l.Lookup(t.Context(), third.ref); err == nil {
				requirePulled(t, l, third, "third")
			}
			for _, e := range must(l.List(t.Context())) {
				_, err := l.Remove(t.Context(), e.Ref, keep...)
				require.NoError(t, err)
			}
			_, err = l.Prune(t.Context(), prunedAtOnce(keep...))
			require.NoError(t, err)
			require.Empty(t, missing(t, l, former))
			require.Len(t, missing(t, l, now), len(now.all))
		}
	}
}

// Removals and pulls of several processes run at the same time. An image in use whose tag has
// moved stays whole.
func TestAnImageInUseStaysDuringPullsAndRemovals(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, dir)
	former, now, third := withoutAName(t, l)
	keep := []digest.Digest{former.manifest.Digest}
	var wg sync.WaitGroup
	for i := range 2 {
		puller, remover := openTest(t, dir), openTest(t, dir)
		wg.Go(func() {
			for j := range rounds.Of(20) {
				img := *[]*testImage{now, third, former}[(i+j)%3]
				img.ref = reference.MustParse(fmt.Sprintf("registry.example/app%d:v%d", i, j%2))
				if err := (&testPuller{l: puller}).pull(t.Context(), &img); err != nil {
					assert.ErrorIs(t, err, os.ErrNotExist)
				}
			}
		})
		wg.Go(func() {
			for range rounds.Of(20) {
				if entries, err := remover.List(t.Context()); assert.NoError(t, err) && len(entries) > 0 {
					if _, err := remover.RemoveImage(t.Context(), entries[:1], keep); err != nil {
						assert.ErrorIs(t, err, content.ErrChanged)
					}
				}
				_, err := remover.Prune(t.Context(), prunedAtOnce(keep...))
				assert.NoError(t, err)
				for _, desc := range former.all[:len(former.all)-1] {
					ok, err := l.Has(t.Context(), desc)
					assert.NoError(t, err)
					assert.True(t, ok, desc.Digest)
				}
			}
		})
	}
	wg.Wait()
	for d, err := range l.Verify(t.Context()) {
		assert.NoError(t, err, d)
	}
}

package layout_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/archive"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// addEntry writes an entry into index.json as another tool does. The entry is a copy of
// the entry called from, with other annotations and perhaps another manifest. An
// annotation with an empty value is left out.
func addEntry(t *testing.T, l *layout.Layout, from string, desc ocispec.Descriptor, annotations map[string]string) {
	t.Helper()
	path := filepath.Join(l.Dir(), indexName)
	var index ocispec.Index
	require.NoError(t, json.Unmarshal(must(os.ReadFile(path)), &index))
	added := ocispec.Descriptor{}
	for _, m := range index.Manifests {
		if m.Annotations[ocispec.AnnotationRefName] == from {
			added = m
		}
	}
	if desc.Digest != "" {
		added.MediaType, added.Digest, added.Size = desc.MediaType, desc.Digest, desc.Size
	}
	all := make(map[string]string)
	for k, v := range added.Annotations {
		all[k] = v
	}
	for k, v := range annotations {
		if all[k] = v; v == "" {
			delete(all, k)
		}
	}
	added.Annotations = all
	index.Manifests = append(index.Manifests, added)
	require.NoError(t, os.WriteFile(path, jsonOf(t, index), 0o644))
}

// Images that other tools derived in the layout keep their names and blobs when
// the image that they were derived from is pulled again or removed.
func TestOtherToolsEntriesAreKept(t *testing.T) {
	const name = "registry.example/team/app:v1"
	for bare, annotations := range map[string]map[string]string{
		"backup":                    {ocispec.AnnotationRefName: "backup"},
		"v1":                        {ocispec.AnnotationRefName: "v1"}, // as ctr and Docker would write it
		"registry.example/mine:one": {ocispec.AnnotationRefName: "registry.example/mine:one"},
		"":                          {ocispec.AnnotationRefName: "", ocilayout.AnnotationImage: ""},
	} {
		for _, derived := range []bool{false, true} {
			t.Run(fmt.Sprintf("%q derived %v", bare, derived), func(t *testing.T) {
				l := openTest(t, t.TempDir())
				img, mine, next := newTestImage(t, name, 1, 100, 200), newTestImage(t, name, 2, 300), newTestImage(t, name, 3, 400)
				require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
				var desc ocispec.Descriptor
				want := img.manifest
				if derived {
					for _, d := range mine.all {
						require.NoError(t, (&testPuller{l: l}).blob(t.Context(), d, mine.data[d.Digest]))
					}
					desc, want = mine.manifest, mine.manifest
				}
				addEntry(t, l, name, desc, annotations)
				requireKept := func(when string) {
					t.Helper()
					images, err := l.List(t.Context())
					require.NoError(t, err)
					found := false
					for _, i := range images {
						found = found || i.Name == bare && i.Manifest.Digest == want.Digest
					}
					assert.True(t, found, "%s: %q is in %v", when, bare, images)
					assert.True(t, isWhole(t, l, want), "%s: all of it is stored", when)
				}
				got, err := l.Lookup(t.Context(), img.ref)
				require.NoError(t, err)
				assert.Equal(t, img.index.Digest, got.Digest)
				requireKept("written")
				require.NoError(t, (&testPuller{l: l}).pull(t.Context(), next))
				got, err = l.Lookup(t.Context(), img.ref)
				require.NoError(t, err)
				assert.Equal(t, next.index.Digest, got.Digest)
				requireKept("pulled again")
				_, err = l.Remove(t.Context(), img.ref)
				require.NoError(t, err)
				_, err = l.Lookup(t.Context(), img.ref)
				require.ErrorIs(t, err, content.ErrNotFound)
				requireKept("removed")
				_, err = l.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
				require.NoError(t, err)
				requireKept("pruned")
				requireWhole(t, l)
			})
		}
	}
}

// isWhole reports whether all content that a manifest leads to is stored.
func isWhole(t *testing.T, l *layout.Layout, desc ocispec.Descriptor) bool {
	t.Helper()
	r, err := l.Open(t.Context(), desc)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	require.NoError(t, err)
	defer r.Close()
	var manifest ocispec.Manifest
	require.NoError(t, json.Unmarshal(must(io.ReadAll(r)), &manifest))
	require.NotEmpty(t, manifest.Layers)
	for _, part := range append(manifest.Layers, manifest.Config) {
		ok, err := l.Has(t.Context(), part)
		require.NoError(t, err)
		if !ok {
			return false
		}
	}
	return true
}

// requireWhole checks that Verify yields no error.
func requireWhole(t *testing.T, l *layout.Layout) {
	t.Helper()
	for d, err := range l.Verify(t.Context()) {
		require.NoError(t, err, d)
	}
}

// If another tool changes an image in place under a name that pointed to an index, the
// name points to the changed image and not to the index.
func TestANameChangedInPlaceLeadsToTheChangedImage(t *testing.T) {
	const name = "registry.example/team/app:v1"
	l := openTest(t, t.TempDir())
	img, mine := newTestImage(t, name, 1, 100, 200), newTestImage(t, name, 2, 300)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	for _, d := range mine.all {
		require.NoError(t, (&testPuller{l: l}).blob(t.Context(), d, mine.data[d.Digest]))
	}
	path := filepath.Join(l.Dir(), indexName)
	data := must(os.ReadFile(path))
	changed := bytes.ReplaceAll(data, []byte(img.manifest.Digest), []byte(mine.manifest.Digest))
	changed = bytes.ReplaceAll(changed, fmt.Appendf(nil, `"size":%d`, img.manifest.Size), fmt.Appendf(nil, `"size":%d`, mine.manifest.Size))
	require.NotEqual(t, data, changed)
	require.NoError(t, os.WriteFile(path, changed, 0o644))
	for range 2 { // read, and remembered
		got, err := l.Lookup(t.Context(), img.ref)
		require.NoError(t, err)
		assert.Equal(t, mine.manifest.Digest, got.Digest)
		images, err := l.List(t.Context())
		require.NoError(t, err)
		require.Len(t, images, 1)
		assert.Equal(t, mine.manifest.Digest, images[0].Descriptor.Digest)
		assert.Equal(t, mine.manifest.Digest, images[0].Manifest.Digest)
	}
	// No name leads to the former image now. An image derived from it stays.
	_, err := l.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
	require.NoError(t, err)
	ok, err := l.Has(t.Context(), img.index)
	require.NoError(t, err)
	assert.False(t, ok, "the index")
	got, err := l.Lookup(t.Context(), img.ref)
	require.NoError(t, err)
	assert.Equal(t, mine.manifest.Digest, got.Digest)
	requireWhole(t, l)
}

// Lookup finds a name by another spelling that has a registry. The canonical spelling
// comes first. Remove removes the canonical name and then the other spelling.
func TestLookupFindsNamesInOtherSpellings(t *testing.T) {
	for _, spelling := range []string{"docker.io/busybox:1.36", "index.docker.io/library/busybox:1.36"} {
		l := openTest(t, t.TempDir())
		img, next := newTestImage(t, "registry.example/one:v1", 1, 100), newTestImage(t, "busybox:1.36", 2, 300)
		require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
		none := map[string]string{ocispec.AnnotationRefName: spelling, ocilayout.AnnotationImage: "", ocilayout.AnnotationResolved: ""}
		addEntry(t, l, "registry.example/one:v1", ocispec.Descriptor{}, none)
		got, err := l.Lookup(t.Context(), next.ref)
		require.NoError(t, err)
		assert.Equal(t, img.manifest.Digest, got.Digest)

		require.NoError(t, (&testPuller{l: l}).pull(t.Context(), next))
		got, err = l.Lookup(t.Context(), next.ref)
		require.NoError(t, err)
		assert.Equal(t, next.index.Digest, got.Digest)
		images, err := l.List(t.Context())
		require.NoError(t, err)
		require.Len(t, images, 3)
		assert.Equal(t, spelling, images[1].Name, "the other tool finds what it wrote")
		assert.Equal(t, img.manifest.Digest, images[1].Manifest.Digest)
		assert.True(t, images[1].Ref.IsZero(), "Lookup answers with another entry")
		assert.Equal(t, next.ref, images[2].Ref)

		_, err = l.Remove(t.Context(), next.ref)
		require.NoError(t, err)
		got, err = l.Lookup(t.Context(), next.ref)
		require.NoError(t, err, "the other tool's image stays")
		assert.Equal(t, img.manifest.Digest, got.Digest)
		_, err = l.Remove(t.Context(), next.ref)
		require.NoError(t, err)
		_, err = l.Lookup(t.Context(), next.ref)
		assert.ErrorIs(t, err, content.ErrNotFound)
	}
	l := openTest(t, t.TempDir())
	img := newTestImage(t, "registry.example/one:v1", 1, 100)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	addEntry(t, l, "registry.example/one:v1", ocispec.Descriptor{}, map[string]string{ocispec.AnnotationRefName: "busybox:1.36"})
	_, err := l.Lookup(t.Context(), reference.MustParse("busybox:1.36"))
	assert.ErrorIs(t, err, content.ErrNotFound, "a name without a registry is not a Reference")
}

// If Import would give an image a name with a registry, Lookup finds the image under that
// name in the layout.
func TestImportAndLookupAgree(t *testing.T) {
	l := openTest(t, t.TempDir())
	img := newTestImage(t, "registry.example/one:v1", 1, 100)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	none := map[string]string{ocispec.AnnotationRefName: "docker.io/busybox", ocilayout.AnnotationImage: "", ocilayout.AnnotationResolved: ""}
	addEntry(t, l, "registry.example/one:v1", ocispec.Descriptor{}, none)
	addEntry(t, l, "registry.example/one:v1", ocispec.Descriptor{}, map[string]string{ocispec.AnnotationRefName: "v2", ocilayout.AnnotationImage: "docker.io/app:v2"})
	var exported bytes.Buffer
	require.NoError(t, archive.Export(t.Context(), l, &exported))
	to := openTest(t, t.TempDir())
	images, err := archive.Import(t.Context(), to, &exported, archive.Config{})
	require.NoError(t, err)
	require.Len(t, images, 3)
	for _, i := range images {
		_, err := l.Lookup(t.Context(), i.Ref)
		assert.NoError(t, err, i.Ref)
	}
}

// index.json has one limit. A Tag that would exceed it is not written, and the existing
// names stay readable.
func TestIndexHasOneLimit(t *testing.T) {
	dir := t.TempDir()
	const limit = 20 << 10
	l := openTest(t, dir)
	l.SetLimits(layout.Limits{IndexSize: limit})
	img := newTestImage(t, "registry.example/one:v1", 1, 100)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	n := 0
	var err error
	for ; err == nil; n++ {
		err = l.Tag(t.Context(), reference.MustParse(fmt.Sprintf("registry.example/app:v%d", n)), img.index)
	}
	require.Greater(t, n, 10)
	assert.ErrorIs(t, err, content.ErrStore)
	assert.ErrorIs(t, err, content.ErrTooLarge)
	assert.ErrorContains(t, err, "index.json would have")
	before := must(os.ReadFile(filepath.Join(dir, indexName)))
	assert.LessOrEqual(t, len(before), limit)

	// In a batch, only the Tag that exceeds the limit fails.
	other := must(layout.Open(dir, layout.Config{}))
	other.SetLimits(layout.Limits{IndexSize: limit})
	defer other.Close()
	for _, l := range []*layout.Layout{l, other} {
		images, err := l.List(t.Context())
		require.NoError(t, err)
		assert.Len(t, images, n)
		require.NoError(t, l.Tag(t.Context(), img.ref, img.index), "a name that is there already")
		require.Error(t, l.Tag(t.Context(), reference.MustParse("registry.example/more:v1"), img.index))
	}
	assert.Equal(t, before, must(os.ReadFile(filepath.Join(dir, indexName))), "it stays as it was")

	// After a Remove, another Tag succeeds.
	_, err = other.Remove(t.Context(), reference.MustParse("registry.example/app:v0"))
	require.NoError(t, err)
	require.NoError(t, l.Tag(t.Context(), reference.MustParse("registry.example/app:w0"), img.index))
}

// An index.json of exactly the limit is read.
func TestLargestIndexIsRead(t *testing.T) {
	l := openTest(t, t.TempDir())
	img := newTestImage(t, "registry.example/one:v1", 1, 100)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	info := must(os.Stat(filepath.Join(l.Dir(), indexName)))
	again := openTest(t, l.Dir())
	again.SetLimits(layout.Limits{IndexSize: int(info.Size())})
	_, err := again.Lookup(t.Context(), img.ref)
	require.NoError(t, err)
	again = openTest(t, l.Dir())
	again.SetLimits(layout.Limits{IndexSize: int(info.Size()) - 1})
	_, err = again.Lookup(t.Context(), img.ref)
	assert.ErrorIs(t, err, content.ErrStore)
}

// Lookup finds the digest of an image of a repository under any tag.
func TestLookupFindsADigestUnderAnyTag(t *testing.T) {
	l := openTest(t, t.TempDir())
	img := newTestImage(t, "registry.example/team/app:v1", 1, 100)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	lookup := func(name string, d digest.Digest) (digest.Digest, error) {
		ref, err := reference.MustParse(name).WithDigest(d)
		require.NoError(t, err)
		got, err := l.Lookup(t.Context(), ref)
		return got.Digest, err
	}
	for _, name := range []string{"registry.example/team/app", "registry.example/team/app:v1", "registry.example/team/app:any"} {
		for _, d := range []digest.Digest{img.index.Digest, img.manifest.Digest} {
			got, err := lookup(name, d)
			require.NoError(t, err, name)
			assert.Equal(t, d, got)
		}
	}
	for _, name := range []string{"registry.example/team/copy", "registry.example/team/ap", "registry.example/team/app/sub", "registry.example/team", "other.example/team/app"} {
		_, err := lookup(name, img.index.Digest)
		assert.ErrorIs(t, err, content.ErrNotFound, name)
	}
	_, err := lookup("registry.example/team/app", img.all[0].Digest) // a blob is not an image
	assert.ErrorIs(t, err, content.ErrNotFound)
	pinned, err := img.ref.WithDigest(img.index.Digest)
	require.NoError(t, err)
	_, err = l.Remove(t.Context(), pinned)
	assert.ErrorIs(t, err, content.ErrNotFound, "the digest is not tagged")
	_, err = l.Remove(t.Context(), img.ref)
	require.NoError(t, err)
	_, err = lookup("registry.example/team/app", img.index.Digest)
	assert.ErrorIs(t, err, content.ErrNotFound)
}

// indexOf stores an index of descs and returns its descriptor.
func indexOf(t testing.TB, l *layout.Layout, descs ...ocispec.Descriptor) ocispec.Descriptor {
	data, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: descs,
	})
	require.NoError(t, err)
	desc := descOf(ocispec.MediaTypeImageIndex, data)
	store(t, l, desc, data)
	return desc
}

// Lookup finds the digest of a manifest in nested indexes, as deep as a pull follows
// them, and the digest of each index on the way. Images that are deeper, or that come
// after too many indexes, are not found. The number of documents that are read is
// bounded.
func TestLookupFindsADigestInNestedIndexes(t *testing.T) {
	l := openTest(t, t.TempDir())
	img := newTestImage(t, "registry.example/team/plain:v1", 1, 100)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	lookup := func(repo string, d digest.Digest) (ocispec.Descriptor, error) {
		ref, err := reference.MustParse("registry.example/" + repo).WithDigest(d)
		require.NoError(t, err)
		return l.Lookup(t.Context(), ref)
	}
	const maxIndexLevels, maxIndexesRead = 5, 64 // the doc of Lookup promises them
	_, absent := blobOf(9, 100)
	absent.MediaType = ocispec.MediaTypeImageIndex
	desc, inside := img.manifest, []ocispec.Descriptor{img.manifest}
	for depth := 1; depth <= maxIndexLevels; depth++ {
		desc = indexOf(t, l, absent, desc, desc)
		repo := fmt.Sprintf("team/nested%d", depth)
		require.NoError(t, l.Tag(t.Context(), reference.MustParse("registry.example/"+repo+":v1"), desc))
		for _, want := range inside {
			got, err := lookup(repo, want.Digest)
			require.NoError(t, err, "%d levels", depth)
			assert.Equal(t, want.Digest, got.Digest)
			assert.Equal(t, want.MediaType, got.MediaType)
		}
		_, err := lookup(repo, absent.Digest)
		assert.ErrorIs(t, err, content.ErrNotFound, "it is listed and not stored")
		inside = append(inside, desc)
	}
	require.NoError(t, l.Tag(t.Context(), reference.MustParse("registry.example/team/deep:v1"), indexOf(t, l, desc)))
	_, err := lookup("team/deep", img.manifest.Digest)
	assert.ErrorIs(t, err, content.ErrNotFound, "it is too deep")
	_, err = lookup("team/deep", img.index.Digest)
	assert.ErrorIs(t, err, content.ErrNotFound, "it is another image's")

	var wide []ocispec.Descriptor
	for i := range maxIndexesRead {
		_, filler := blobOf(i, 50)
		wide = append(wide, indexOf(t, l, filler))
	}
	wide = append(wide, indexOf(t, l, img.manifest))
	require.NoError(t, l.Tag(t.Context(), reference.MustParse("registry.example/team/wide:v1"), indexOf(t, l, wide...)))
	_, err = lookup("team/wide", img.manifest.Digest)
	assert.ErrorIs(t, err, content.ErrNotFound, "it comes after too many indexes")
	got, err := lookup("team/wide", wide[len(wide)-1].Digest)
	require.NoError(t, err, "the index that lists it was read")
	assert.Equal(t, wide[len(wide)-1].Digest, got.Digest)
}

// Invalid entries of other tools do not disturb the use of the layout.
func TestInvalidEntriesAreKept(t *testing.T) {
	l := openTest(t, t.TempDir())
	img := newTestImage(t, "registry.example/one:v1", 1, 100)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	data := must(os.ReadFile(l.Dir() + "/" + indexName))
	data = bytes.Replace(data, []byte(`"manifests":[`), []byte(`"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"blake3:00","size":3,
		"annotations":{"org.opencontainers.image.ref.name":"registry.example/odd:v1"}}, {"mediaType":"text/plain","size":-1},`), 1)
	require.NoError(t, os.WriteFile(l.Dir()+"/"+indexName, data, 0o644))
	images, err := l.List(t.Context())
	require.NoError(t, err)
	require.Len(t, images, 3)
	assert.Equal(t, "registry.example/odd:v1", images[0].Ref.String())
	assert.True(t, images[1].Ref.IsZero())
	_, err = l.Lookup(t.Context(), images[0].Ref)
	assert.ErrorIs(t, err, content.ErrBadDigest)
	requireLookup := func() {
		got, err := l.Lookup(t.Context(), img.ref)
		require.NoError(t, err)
		assert.Equal(t, img.index.Digest, got.Digest)
	}
	requireLookup()
	_, err = l.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
	require.NoError(t, err)
	require.NoError(t, l.Tag(t.Context(), reference.MustParse("registry.example/two:v1"), img.index))
	require.NoError(t, archive.Export(t.Context(), l, io.Discard, img.ref))
	requireLookup()
	images, err = l.List(t.Context())
	require.NoError(t, err)
	assert.Len(t, images, 4, "they are kept")
}

// Verify reports a missing blob of an image that is two indexes deep.
func TestVerifyReadsNestedIndexes(t *testing.T) {
	l := openTest(t, t.TempDir())
	img := newTestImage(t, "registry.example/team/plain:v1", 1, 100)
	for _, desc := range img.all {
		store(t, l, desc, img.data[desc.Digest])
	}
	deep := indexOf(t, l, indexOf(t, l, img.manifest))
	require.NoError(t, l.Tag(t.Context(), img.ref, deep))
	missing := func() (all []digest.Digest) {
		for d, err := range l.Verify(t.Context()) {
			if err != nil {
				assert.ErrorIs(t, err, fs.ErrNotExist)
				all = append(all, d)
			}
		}
		return all
	}
	assert.Empty(t, missing())
	require.NoError(t, os.Remove(pathOf(l, img.all[1])))
	assert.Equal(t, []digest.Digest{deep.Digest}, missing())
}

// fill tags img with n names.
func fill(t testing.TB, l *layout.Layout, img *testImage, n int) {
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	var wg sync.WaitGroup
	for i := range n - 1 {
		ref := reference.MustParse(fmt.Sprintf("registry.example/team/full%d:v1", i))
		wg.Go(func() { assert.NoError(t, l.Tag(t.Context(), ref, img.index)) })
	}
	wg.Wait()
}

// Another image takes as many file operations in a layout of 2,000 images as in one of
// 50. BenchmarkGrowth measures the time.
func TestOperationsDoNotGrowWithTheLayout(t *testing.T) {
	var took []int64
	for _, n := range []int{50, 2000} {
		var ops atomic.Int64
		l, err := layout.OpenDisk("mem", disktest.Before(disktest.New().Process(), func(string, string) error { ops.Add(1); return nil }), layout.Config{})
		require.NoError(t, err)
		fill(t, l, newTestImage(t, "registry.example/team/first:v1", 0, 2000), n)
		img := newTestImage(t, "registry.example/team/app:v1", 1, 2000)
		before := ops.Load()
		require.NoError(t, (&testPuller{l: l, oneByOne: true}).pull(t.Context(), img))
		took = append(took, ops.Load()-before)
	}
	assert.Equal(t, took[0], took[1])
}

// BenchmarkGrowth pulls another image into a layout of 50 images, one of 4,900, and, in a
// new process, one of 5,000. The layouts take turns, so that other load of the machine
// affects all of them. The second should take at most twice as long as the first, and the
// third at most 50 ms.
func BenchmarkGrowth(b *testing.B) {
	small, big, others := openTest(b, b.TempDir()), openTest(b, b.TempDir()), openTest(b, b.TempDir())
	first := newTestImage(b, "registry.example/team/first:v1", 0, 2000)
	fill(b, small, first, 50)
	fill(b, big, first, 4900)
	fill(b, others, first, 5000)
	var took [3]time.Duration
	n := 0
	pull := func(l *layout.Layout) {
		n++
		img := newTestImage(b, fmt.Sprintf("registry.example/team/app%d:v1", n), n, 2000)
		require.NoError(b, (&testPuller{l: l, oneByOne: true}).pull(b.Context(), img))
	}
	for b.Loop() {
		for j, l := range []*layout.Layout{small, big} {
			start := time.Now()
			pull(l)
			took[j] += time.Since(start)
		}
		start := time.Now()
		again, err := layout.Open(others.Dir(), layout.Config{})
		require.NoError(b, err)
		pull(again)
		took[2] += time.Since(start)
		require.NoError(b, again.Close())
	}
	for j, unit := range []string{"ms/image-51", "ms/image-4901", "ms/new-process"} {
		b.ReportMetric(float64(took[j].Microseconds())/1000/float64(b.N), unit)
	}
}

// Lookup sees what another process wrote after index.json was last read.
func TestLookupSeesOtherProcesses(t *testing.T) {
	mem := disktest.New()
	l, other := must(openMem(mem.Process())), must(openMem(mem.Process()))
	data, desc := blobOf(1, 100)
	store(t, l, desc, data)
	ref := reference.MustParse("busybox:1.36")
	require.NoError(t, l.Tag(t.Context(), ref, desc))
	for _, reader := range []*layout.Layout{l, other} {
		got, err := reader.Lookup(t.Context(), ref)
		require.NoError(t, err)
		assert.Equal(t, desc.Digest, got.Digest)
	}
	_, err := other.Remove(t.Context(), ref)
	require.NoError(t, err)
	_, err = l.Lookup(t.Context(), ref)
	assert.ErrorIs(t, err, content.ErrNotFound)
}

package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A small archive that unpacks to a very large one takes little memory and disk.
func TestArchivesThatExpandTooMuchAreRefused(t *testing.T) {
	many := func(yield func(*tar.Header) bool) {
		for i := range maxOthers + 1 {
			if !yield(&tar.Header{Typeflag: tar.TypeSymlink, Name: strconv.Itoa(i), Linkname: "x"}) {
				return
			}
		}
	}
	long := func(yield func(*tar.Header) bool) {
		yield(&tar.Header{Typeflag: tar.TypeLink, Name: "x", Linkname: strings.Repeat("a", maxName)})
	}
	for name, headers := range map[string]iter.Seq[*tar.Header]{"many links": many, "long name": long} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for hdr := range headers {
			require.NoError(t, w.WriteHeader(hdr))
		}
		require.NoError(t, w.Close())
		_, err := Import(t.Context(), new(pullertest.MemStore), &b, Config{})
		assert.Equal(t, content.ErrTooLarge, content.ReasonOf(err), "%s: %v", name, err)
	}
	// This is a sparse file of an exbibyte.
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	sparse := "1\n1152921504606846975\n1\n"
	sparse += strings.Repeat("\x00", 512-len(sparse))
	require.NoError(t, w.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: "aaa/layer.tar", Size: int64(len(sparse)) + 1, Format: tar.FormatPAX,
		PAXRecords: map[string]string{"XXX.sparse.major": "1", "XXX.sparse.minor": "0", "XXX.sparse.realsize": "1152921504606846976"},
	}))
	_, err := w.Write([]byte(sparse + "x"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	archive := bytes.ReplaceAll(b.Bytes(), []byte("XXX.sparse"), []byte("GNU.sparse")) // a tar.Writer refuses this name
	store := new(spyStore)
	im := newImporter(store, Config{})
	im.holes = 4 << 20
	_, err = im.run(t.Context(), bytes.NewReader(archive))
	assert.Equal(t, content.ErrTooLarge, content.ReasonOf(err), "%v", err)
	assert.Empty(t, store.kept)
}

// Files of a tar may have holes, which "tar --sparse" leaves out. Import reads them up to
// a limit, because a few bytes of an archive can mean exbibytes of holes.
func TestSparseFilesAreReadUpToALimit(t *testing.T) {
	program := realtest.Need(t, "tar")
	for _, format := range []string{"gnu", "posix"} {
		dir := t.TempDir()
		// The layer is uncompressed and has a hole, a megabyte of zeros in a file.
		layer := tarOf(t, tarFile{name: "zeros", data: make([]byte, 1<<20)}, tarFile{name: "end", data: []byte("end")})
		config := jsonOf(t, ocispec.Image{
			Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
			RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.Digest("sha256:" + hexOf(layer))}},
		})
		list := jsonOf(t, []dockerImage{{Config: "config.json", RepoTags: []string{"busybox:1.36"}, Layers: []string{"layer.tar"}}})
		for name, data := range map[string][]byte{"config.json": config, "manifest.json": list} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
		}
		f, err := os.Create(filepath.Join(dir, "layer.tar"))
		require.NoError(t, err)
		for at := 0; at < len(layer); at += 512 { // blocks of zeros become holes
			if block := layer[at : at+512]; !bytes.Equal(block, make([]byte, 512)) {
				_, err = f.WriteAt(block, int64(at))
				require.NoError(t, err)
			}
		}
		require.NoError(t, f.Truncate(int64(len(layer))))
		require.NoError(t, f.Close())
		archive, err := exec.CommandContext(t.Context(), program, "--sparse", "--format="+format, "-C", dir, "-cf", "-", "layer.tar", "config.json", "manifest.json").Output()
		require.NoError(t, err)
		require.Less(t, len(archive), 1<<20, "the archive has holes")
		images, err := Import(t.Context(), new(pullertest.MemStore), bytes.NewReader(archive), Config{})
		require.NoError(t, err, format)
		assert.Len(t, images, 1)

		// With a lower limit, Import refuses the archive.
		im := newImporter(new(pullertest.MemStore), Config{})
		im.holes = 1 << 19
		_, err = im.run(t.Context(), bytes.NewReader(archive))
		im.clean(t.Context())
		assert.Equal(t, content.ErrTooLarge, content.ReasonOf(err), "%s: %v", format, err)
		assert.ErrorContains(t, err, `"layer.tar"`, format)
		assert.ErrorContains(t, err, "without --sparse", format)
	}
}

// The parts of small archives take little memory: long names, lists of many elements, and
// files without content.
func TestImportTakesLittleMemory(t *testing.T) {
	links := func(w *tar.Writer) {
		for i := range 65_000 {
			name := fmt.Sprintf("%06d%s", i, strings.Repeat("n", 3994))
			if w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: strings.Repeat("t", 4000)}) != nil {
				return
			}
		}
	}
	list := func(name, before, element, after string, size int) func(*tar.Writer) {
		return func(w *tar.Writer) {
			text := before + strings.Repeat(element+",", (size-len(before)-len(after))/(len(element)+1)-1) + element + after
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: ocilayout.LayoutFile, Size: int64(len(ocilayout.Layout))})
			io.WriteString(w, ocilayout.Layout)
			if name == "" {
				name = ocilayout.BlobName(digest.Digest("sha256:" + hexOf([]byte(text))))
				index := fmt.Sprintf(`{"manifests":[{"mediaType":%q,"digest":"sha256:%s","size":%d,"annotations":{"org.opencontainers.image.ref.name":"r.example/a:v1"}}]}`,
					ocispec.MediaTypeImageManifest, hexOf([]byte(text)), len(text))
				w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: ocilayout.IndexFile, Size: int64(len(index))})
				io.WriteString(w, index)
			}
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text))})
			io.WriteString(w, text)
		}
	}
	empty := func(w *tar.Writer) {
		for i := range 3000 {
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strconv.Itoa(i)})
		}
	}
	for name, tt := range map[string]struct {
		write  func(*tar.Writer)
		all    uint64 // the most bytes that are allocated in total
		reason content.Reason
	}{
		"long links":           {links, 0, content.ErrTooLarge},
		"large index.json":     {list(ocilayout.IndexFile, `{"manifests":[`, `{}`, `]}`, 2*maxList), 24 << 20, content.ErrTooLarge},
		"many entries":         {list(ocilayout.IndexFile, `{"manifests":[`, `{}`, `]}`, maxList), 64 << 20, content.ErrBadIndex},
		"many images":          {list(dockerList, `[`, `{}`, `]`, maxList), 64 << 20, content.ErrTooLarge},
		"many layers of one":   {list(dockerList, `[{"Layers":[`, `""`, `]}]`, maxList), 64 << 20, content.ErrTooLarge},
		"many layers":          {list("", `{"layers":[`, `{}`, `]}`, ocilayout.MaxDocument), 64 << 20, ""},
		"many files, no bytes": {empty, 256 << 20, content.ErrBadIndex},
	} {
		t.Run(name, func(t *testing.T) {
			store := new(pullertest.MemStore)
			// The archive is written while it is read, so that it does not take memory
			// itself.
			r, w := io.Pipe()
			go func() {
				tw := tar.NewWriter(w)
				tt.write(tw)
				tw.Close()
				w.Close()
			}()
			if tt.all > 0 { // only the allocations of Import count
				written, err := io.ReadAll(r)
				require.NoError(t, err)
				r, w = io.Pipe()
				go func() { w.Write(written); w.Close() }()
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			im := newImporter(store, Config{})
			_, err := im.run(t.Context(), r)
			r.Close()
			runtime.ReadMemStats(&after)
			if tt.all > 0 {
				assert.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, tt.all*raceFactor, "allocated")
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			assert.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(32<<20)*raceFactor, "kept")
			im.clean(t.Context())
			require.Error(t, err)
			if tt.reason != "" {
				assert.Equal(t, tt.reason, content.ReasonOf(err), "%v", err)
			}
		})
	}
}

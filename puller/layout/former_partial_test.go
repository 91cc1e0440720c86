package layout_test

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// unpackLayout writes a layout that testdata has as a tar into dir. Blobs keep the
// modification time that the tar has. All other files get the present time, because a
// layout removes what was not written to for a day.
func unpackLayout(t *testing.T, dir, name string) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	require.NoError(t, err)
	defer f.Close()
	var packed io.Reader = f
	if strings.HasSuffix(name, ".bz2") {
		packed = bzip2.NewReader(f)
	}
	for r := tar.NewReader(packed); ; {
		hdr, err := r.Next()
		if err == io.EOF {
			return
		}
		require.NoError(t, err)
		path := filepath.Join(dir, filepath.FromSlash(hdr.Name))
		if hdr.Typeflag == tar.TypeDir {
			require.NoError(t, os.MkdirAll(path, 0o755))
			continue
		}
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, data, 0o644))
		if strings.HasPrefix(hdr.Name, "blobs/") {
			require.NoError(t, os.Chtimes(path, time.Now(), hdr.ModTime))
		}
	}
}

// formerLayer returns the content of a layer of former-unfinished.tar.bz2: so many blocks
// of 64 KiB, each of which repeats its number.
func formerLayer(letter byte, blocks int) []byte {
	var b bytes.Buffer
	for i := range blocks {
		b.WriteString(strings.Repeat(fmt.Sprintf("%c %05d\n", letter, i), 64<<10/8))
	}
	return b.Bytes()
}

// A pull resumes the blobs that a killed process of the first version left, one written
// from its start without a gap and one with gaps and a side list. It fetches exactly the
// ranges that are missing, and the stored image is right.
func TestPartialsOfTheFirstVersionAreResumed(t *testing.T) {
	const blockSize = 64 << 10
	dir := t.TempDir()
	unpackLayout(t, dir, "former-unfinished.tar.bz2")
	stored := func(hash string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", hash))
		require.NoError(t, err)
		return data
	}
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	defer reg.Close()
	plain := reg.PutBlob("team/app", ocispec.MediaTypeImageLayer, formerLayer('a', 48))
	gaps := reg.PutBlob("team/app", ocispec.MediaTypeImageLayer, formerLayer('b', 192))
	reg.PutBlob("team/app", ocispec.MediaTypeImageConfig, stored("a27e2e80771eabab9c0860eec887400d2cbf040bdd76d821dab1b7c5fcdfb854"))
	manifest := reg.PutManifest("team/app:v1", ocispec.MediaTypeImageManifest, stored("144ce2e3692539b1eb34901c6d28a7bfb15488ca5a0d56cbe5fe3e39d94b0406"))

	l, err := layout.Open(dir, layout.Config{})
	require.NoError(t, err)
	defer l.Close()
	missing := int64(0)
	for desc, want := range map[*ocispec.Descriptor][][2]int64{
		&plain: {{0, 16}},
		&gaps:  {{0, 48}, {52, 60}, {68, 72}},
	} {
		var have [][2]int64
		in, err := l.Ingest(t.Context(), *desc)
		require.NoError(t, err)
		missing += desc.Size
		for off, n := range in.Have() {
			have = append(have, [2]int64{off / blockSize, (off + n) / blockSize})
			missing -= n
		}
		require.NoError(t, in.Close())
		assert.Equal(t, want, have, "blocks of the layer that had arrived")
	}

	client, err := registry.New(registry.Config{PlainHTTP: []string{reg.Host()}})
	require.NoError(t, err)
	rt, err := transfer.New(transfer.Config{Store: l, Source: client, MaxConnsPerBlob: 1})
	require.NoError(t, err)
	ref := reference.MustParse(reg.Host() + "/team/app:v1")
	_, err = rt.Pull(t.Context(), puller.Spec{Ref: ref, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}})
	require.NoError(t, err)
	counts := reg.Counts()
	assert.Equal(t, missing, counts.BlobBytes, "only missing ranges are fetched")
	assert.Equal(t, 4, counts.BlobRange, "one request for each gap")
	assert.Equal(t, 4, counts.BlobGet, "the config is stored already")

	got, err := l.Lookup(t.Context(), ref)
	require.NoError(t, err)
	assert.Equal(t, manifest.Digest, got.Digest)
	verified := map[digest.Digest]bool{}
	for d, err := range l.Verify(t.Context()) {
		require.NoError(t, err, d)
		verified[d] = true
	}
	assert.Len(t, verified, 4)
	assert.True(t, verified[plain.Digest] && verified[gaps.Digest])
	left, err := os.ReadDir(filepath.Join(dir, ".pullkit", "ingest"))
	require.NoError(t, err)
	assert.Empty(t, left, "no file of the incomplete blobs is left")
}

package layout_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/pullkit/pullkit/puller/layout"
	"github.com/stretchr/testify/require"
)

// BenchmarkTinyImages stores images of one small layer, eight at the same time, in one
// new layout. One iteration is one image.
func BenchmarkTinyImages(b *testing.B) {
	for _, parallel := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("parallel %d", parallel), func(b *testing.B) {
			l := openTest(b, b.TempDir())
			images := make([]*testImage, 0, b.N)
			for i := range b.N {
				images = append(images, newTestImage(b, fmt.Sprintf("registry.example/team/app%d:v1", i), i, 2000))
			}
			b.ResetTimer()
			next := make(chan *testImage)
			var wg sync.WaitGroup
			for range parallel {
				wg.Go(func() {
					for img := range next {
						if err := (&testPuller{l: l}).pull(b.Context(), img); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for _, img := range images {
				next <- img
			}
			close(next)
			wg.Wait()
		})
	}
}

// BenchmarkBigBlob writes one blob of 256 MiB, without a hash.
func BenchmarkBigBlob(b *testing.B) {
	l := openTest(b, b.TempDir())
	buf, _ := blobOf(1, 256<<10)
	const size = 256 << 20
	b.SetBytes(size)
	for i := 0; b.Loop(); i++ {
		desc := descOf("application/octet-stream", fmt.Append(nil, i))
		desc.Size = size
		in, err := l.Ingest(b.Context(), desc)
		require.NoError(b, err)
		for off := int64(0); off < size; off += int64(len(buf)) {
			_, err := in.WriteAt(buf, off)
			require.NoError(b, err)
		}
		require.NoError(b, in.Commit(b.Context()))
		require.NoError(b, os.Remove(pathOf(l, desc)))
	}
}

// BenchmarkReadIndex opens a layout of 5,000 images and looks up one of them.
func BenchmarkReadIndex(b *testing.B) {
	first := openTest(b, b.TempDir())
	img := newTestImage(b, "registry.example/team/first:v1", 0, 100)
	fill(b, first, img, 5000)
	info, err := os.Stat(filepath.Join(first.Dir(), indexName))
	require.NoError(b, err)
	b.SetBytes(info.Size())
	for b.Loop() {
		l, err := layout.Open(first.Dir(), layout.Config{})
		require.NoError(b, err)
		_, err = l.Lookup(b.Context(), img.ref)
		require.NoError(b, err)
		require.NoError(b, l.Close())
	}
}

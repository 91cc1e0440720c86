package layout

import (
	"fmt"
	"sync"
	"testing"

	"github.com/pullkit/pullkit/internal/ocilayout"
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
		require.NoError(b, l.fs.Remove(ocilayout.BlobName(desc.Digest)))
	}
}

// BenchmarkParseIndex reads an index.json of 5,000 images.
func BenchmarkParseIndex(b *testing.B) {
	l := openTest(b, b.TempDir())
	fill(b, l, newTestImage(b, "registry.example/team/first:v1", 0, 100), 5000)
	data, err := l.read(indexName, maxIndexSize)
	require.NoError(b, err)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		_, err := parseIndex(data)
		require.NoError(b, err)
	}
}

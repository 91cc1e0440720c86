package pullertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/fakeregistry"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// TestStore tests an implementation of content.Store. It calls newStore several times. Each
// call of newStore returns a new, empty store. The caller of TestStore closes and removes
// the stores. The error is nil if the store keeps its contract, and otherwise lists all
// that is wrong.
//
// TestStore writes to a content.OrderedIngest only in order. If the Store is a content.Holder,
// or its ingests are of the types content.OrderedIngest or content.VerifyingIngest, TestStore
// also tests the rules of these interfaces.
func TestStore(newStore func() (content.Store, error)) error {
	var wrong []error
	for _, c := range []struct {
		name  string
		check func(*storeCheck)
	}{
		{"empty store", (*storeCheck).empty},
		{"commit", (*storeCheck).commit},
		{"content of no bytes", (*storeCheck).zero},
		{"another size", (*storeCheck).anotherSize},
		{"discard", (*storeCheck).discard},
		{"close and resume", (*storeCheck).resume},
		{"bytes out of order", (*storeCheck).outOfOrder},
		{"wrong bytes", (*storeCheck).wrongBytes},
		{"the context of an ingest ends", (*storeCheck).contextEnds},
		{"hold", (*storeCheck).hold},
		{"tag", (*storeCheck).tag},
		{"tag of an index", (*storeCheck).tagIndex},
		{"cancelled wait", (*storeCheck).cancelledWait},
		{"wait for a commit", (*storeCheck).waitForCommit},
		{"wait for a close", (*storeCheck).waitForClose},
		{"many at once", (*storeCheck).manyAtOnce},
	} {
		store, err := newStore()
		if err != nil {
			return fmt.Errorf("new store: %w", err)
		}
		sc := &storeCheck{store: store}
		c.check(sc)
		for _, err := range sc.wrong {
			wrong = append(wrong, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return errors.Join(wrong...)
}

// findings are all that is wrong with an implementation.
type findings struct {
	mu    sync.Mutex
	wrong []error
}

// must records a condition that does not hold, and returns it. Several goroutines may call
// it.
func (f *findings) must(ok bool, format string, args ...any) bool {
	if !ok {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.wrong = append(f.wrong, fmt.Errorf(format, args...))
	}
	return ok
}

// A storeCheck is the test of one store.
type storeCheck struct {
	store content.Store
	findings
}

// testBlob makes content and its descriptor.
func testBlob(seed uint64, size int64) (ocispec.Descriptor, []byte) {
	data := fakeregistry.RandomBytes(size, seed, 0)
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: fakeregistry.SHA256(data), Size: size}, data
}

func (c *storeCheck) empty() {
	ctx := context.Background()
	desc, _ := testBlob(1, 100)
	_, err := c.store.Lookup(ctx, reference.MustParse("registry.example/team/app:v1"))
	c.must(errors.Is(err, fs.ErrNotExist), "Lookup: %v, want fs.ErrNotExist", err)
	body, err := c.store.Open(ctx, desc)
	if !c.must(errors.Is(err, fs.ErrNotExist), "Open: %v, want fs.ErrNotExist", err) && err == nil {
		_ = body.Close()
	}
	c.absent(desc)
}

// absent checks that the content cannot be seen.
func (c *storeCheck) absent(desc ocispec.Descriptor) {
	has, err := c.store.Has(context.Background(), desc)
	c.must(err == nil && !has, "Has: %t, %v, want false", has, err)
}

// present checks that the content is there.
func (c *storeCheck) present(desc ocispec.Descriptor, data []byte) {
	ctx := context.Background()
	has, err := c.store.Has(ctx, desc)
	c.must(err == nil && has, "Has after Commit: %t, %v, want true", has, err)
	body, err := c.store.Open(ctx, desc)
	if !c.must(err == nil, "Open after Commit: %v", err) {
		return
	}
	got, err := io.ReadAll(body)
	c.must(err == nil && bytes.Equal(got, data), "Open after Commit: %d bytes, %v, want the %d bytes written", len(got), err, len(data))
	err = body.Close()
	c.must(err == nil, "Close of what Open returned: %v", err)
	ingest, err := c.store.Ingest(ctx, desc)
	if !c.must(errors.Is(err, fs.ErrExist), "Ingest after Commit: %v, want fs.ErrExist", err) && err == nil {
		_ = ingest.Close()
	}
}

// ingest starts an ingest. It returns nil if that fails.
func (c *storeCheck) ingest(desc ocispec.Descriptor) content.Ingest {
	ingest, err := c.store.Ingest(context.Background(), desc)
	if !c.must(err == nil, "Ingest: %v", err) {
		return nil
	}
	return ingest
}

func (c *storeCheck) write(ingest content.Ingest, data []byte, off int64) {
	n, err := ingest.WriteAt(data, off)
	c.must(err == nil && n == len(data), "WriteAt: %d, %v, want %d", n, err, len(data))
	if ordered, ok := ingest.(content.OrderedIngest); ok {
		at := ordered.Offset()
		c.must(at == off+int64(len(data)), "Offset after %d bytes were written at %d: %d", len(data), off, at)
	}
}

// begins returns the Offset of an ingest that takes bytes only in order. It returns false for
// any other ingest.
func (c *storeCheck) begins(ingest content.Ingest) (int64, bool) {
	ordered, ok := ingest.(content.OrderedIngest)
	if !ok {
		return 0, false
	}
	return ordered.Offset(), true
}

// verifies reports whether the ingest verifies its content.
func verifies(ingest content.Ingest) bool {
	v, ok := ingest.(content.VerifyingIngest)
	return ok && v.Verifies()
}

// close closes an ingest before it has committed.
func (c *storeCheck) close(ingest content.Ingest) {
	err := ingest.Close()
	c.must(err == nil, "Close: %v", err)
}

func (c *storeCheck) finish(ingest content.Ingest) {
	err := ingest.Commit(context.Background())
	c.must(err == nil, "Commit: %v", err)
	err = ingest.Close()
	c.must(err == nil, "Close after Commit: %v", err)
}

func (c *storeCheck) commit() {
	desc, data := testBlob(2, 300_000)
	ingest := c.ingest(desc)
	if ingest == nil {
		return
	}
	for range ingest.Have() {
		c.must(false, "Have of a new ingest yields something")
	}
	if off, ordered := c.begins(ingest); ordered {
		c.must(off == 0, "Offset of a new ingest: %d", off)
		for off := int64(0); off < desc.Size; off += 100_000 {
			c.write(ingest, data[off:off+100_000], off)
		}
		c.absent(desc)
		c.finish(ingest)
		c.present(desc, data)
		return
	}
	c.write(ingest, data[200_000:], 200_000)
	c.write(ingest, data[:100_000], 0)
	c.write(ingest, data[100_000:200_000], 100_000)
	got := make([]byte, 150_000)
	n, err := ingest.ReadAt(got, 100_000)
	c.must(n == len(got) && (err == nil || err == io.EOF) && bytes.Equal(got, data[100_000:250_000]), "ReadAt: %d, %v, want what was written", n, err)
	c.absent(desc)
	c.finish(ingest)
	c.present(desc, data)
}

func (c *storeCheck) zero() {
	desc, data := testBlob(3, 0)
	if ingest := c.ingest(desc); ingest != nil {
		c.finish(ingest)
		c.present(desc, data)
	}
}

// anotherSize asks for stored content with a wrong size, as a manifest with wrong sizes
// does. The store must answer that it does not have such content.
func (c *storeCheck) anotherSize() {
	desc, data := testBlob(10, 5000)
	ingest := c.ingest(desc)
	if ingest == nil {
		return
	}
	c.write(ingest, data, 0)
	c.finish(ingest)
	for _, size := range []int64{0, desc.Size - 1, desc.Size + 1} {
		lie := desc
		lie.Size = size
		c.absent(lie)
		ingest, err := c.store.Ingest(context.Background(), lie)
		c.must(!errors.Is(err, fs.ErrExist), "Ingest of %d bytes with the digest of %d that are stored: %v", size, desc.Size, err)
		if err == nil {
			_ = ingest.Discard()
			_ = ingest.Close()
		}
	}
	c.present(desc, data)
}

func (c *storeCheck) discard() {
	desc, data := testBlob(4, 5000)
	ingest := c.ingest(desc)
	if ingest == nil {
		return
	}
	c.write(ingest, data[:3000], 0)
	err := ingest.Discard()
	c.must(err == nil, "Discard: %v", err)
	err = ingest.Close()
	c.must(err == nil, "Close after Discard: %v", err)
	c.absent(desc)
	if ingest = c.ingest(desc); ingest == nil {
		return
	}
	for off, n := range ingest.Have() {
		c.must(false, "Have after Discard yields %d bytes at %d", n, off)
	}
	c.write(ingest, data, 0)
	c.finish(ingest)
	c.present(desc, data)
}

func (c *storeCheck) resume() {
	desc, data := testBlob(5, 1<<20)
	ingest := c.ingest(desc)
	if ingest == nil {
		return
	}
	c.write(ingest, data[:1<<19], 0)
	if _, ordered := c.begins(ingest); !ordered {
		c.write(ingest, data[3<<18:], 3<<18)
	}
	c.close(ingest)
	err := ingest.Close()
	c.must(err == nil, "Close again: %v", err)
	c.absent(desc)
	kept := int64(-1)
	if store, ok := c.store.(content.PartialReporter); ok {
		kept, err = store.Kept(context.Background(), desc)
		c.must(err == nil, "Kept: %v", err)
	}
	if store, ok := c.store.(content.SpaceReporter); ok {
		free, err := store.Free(context.Background())
		c.must(err == nil && free >= 0, "Free: %d, %v", free, err)
	}
	if ingest = c.ingest(desc); ingest == nil {
		return
	}
	// The store decides how much it keeps, but it keeps only what was written.
	last, sum := int64(-1), int64(0)
	for off, n := range ingest.Have() {
		sum += n
		if !c.must(off > last && n > 0 && off+n <= desc.Size, "Have yields %d bytes at %d after byte %d, of %d", n, off, last, desc.Size) {
			break
		}
		last = off + n
		c.must(last <= 1<<19 || off >= 3<<18, "Have yields %d bytes at %d, which were not written", n, off)
		if at, ordered := c.begins(ingest); ordered {
			c.must(off == 0 && n == at && n <= 1<<19, "Have yields %d bytes at %d, and Offset is %d after %d bytes were written", n, off, at, 1<<19)
			if verifies(ingest) {
				continue // its bytes need not be read back
			}
		}
		got := make([]byte, n)
		k, err := ingest.ReadAt(got, off)
		c.must(int64(k) == n && (err == nil || err == io.EOF) && bytes.Equal(got, data[off:off+n]), "ReadAt of kept bytes: %d, %v, want what was written", k, err)
	}
	c.must(kept < 0 || kept == sum, "Kept: %d, and Have yields %d bytes", kept, sum)
	from, ordered := c.begins(ingest)
	if !c.must(!ordered || from == sum, "Offset: %d, and Have yields %d bytes", from, sum) {
		c.close(ingest)
		return
	}
	c.write(ingest, data[from:], from)
	c.finish(ingest)
	c.present(desc, data)
}

// outOfOrder writes at other offsets than the next one to an ingest that takes bytes only in
// order.
func (c *storeCheck) outOfOrder() {
	desc, data := testBlob(11, 3000)
	ingest := c.ingest(desc)
	if ingest == nil {
		return
	}
	if _, ordered := c.begins(ingest); !ordered {
		c.close(ingest)
		return
	}
	c.write(ingest, data[:1000], 0)
	for _, off := range []int64{0, 999, 1001, 2500} {
		_, err := ingest.WriteAt(data[off:off+10], off)
		c.must(err != nil, "WriteAt at byte %d succeeds, and byte 1000 is next", off)
		at, _ := c.begins(ingest)
		c.must(at == 1000, "Offset after a WriteAt that was out of order: %d, want 1000", at)
	}
	c.write(ingest, data[1000:], 1000)
	c.finish(ingest)
	c.present(desc, data)
}

// wrongBytes commits bytes that are not those of the blob to an ingest that verifies its content.
func (c *storeCheck) wrongBytes() {
	desc, data := testBlob(12, 5000)
	wrong := bytes.Clone(data)
	wrong[1234] ^= 1
	for _, bad := range []struct {
		what        string
		early, late []byte // written before the ingest is closed and started again, and after that
	}{
		{"other bytes", nil, wrong},
		{"other bytes that an earlier try left", wrong[:3000], data[3000:]},
		{"too few bytes", nil, data[:4999]},
	} {
		ingest := c.ingest(desc)
		if ingest == nil {
			return
		}
		if !verifies(ingest) {
			c.close(ingest)
			return
		}
		for off, n := range ingest.Have() {
			c.must(false, "Have yields %d bytes at %d after Commit has refused them", n, off)
		}
		from := int64(0)
		if bad.early != nil {
			c.write(ingest, bad.early, 0)
			c.close(ingest)
			if ingest = c.ingest(desc); ingest == nil {
				return
			}
			for off, n := range ingest.Have() {
				from = off + n
			}
			if from < int64(len(bad.early)) { // the store may keep fewer bytes
				c.write(ingest, bad.early[from:], from)
			}
			from = int64(len(bad.early))
		}
		c.write(ingest, bad.late, from)
		err := ingest.Commit(context.Background())
		reason := content.ReasonOf(err)
		c.must(reason == content.ErrDigestMismatch || reason == content.ErrSizeMismatch,
			"Commit of %s: %v, want content.ErrDigestMismatch or content.ErrSizeMismatch", bad.what, err)
		err = ingest.Close()
		c.must(err == nil, "Close after Commit: %v", err)
		c.absent(desc)
	}
	if ingest := c.ingest(desc); ingest != nil {
		for off, n := range ingest.Have() {
			c.must(false, "Have yields %d bytes at %d after Commit has refused them", n, off)
		}
		c.write(ingest, data, 0)
		c.finish(ingest)
		c.present(desc, data)
	}
}

// contextEnds closes an ingest whose context has ended, and starts another one.
func (c *storeCheck) contextEnds() {
	desc, data := testBlob(13, 5000)
	for _, end := range []func(content.Ingest) error{content.Ingest.Close, content.Ingest.Discard} {
		ctx, cancel := context.WithCancel(context.Background())
		ingest, err := c.store.Ingest(ctx, desc)
		if !c.must(err == nil, "Ingest: %v", err) {
			cancel()
			return
		}
		cancel()
		err = end(ingest)
		c.must(err == nil, "Close or Discard after the end of the context: %v", err)
		err = ingest.Close()
		c.must(err == nil, "Close again: %v", err)
	}
	if ingest := c.ingest(desc); ingest != nil {
		c.write(ingest, data, 0)
		c.finish(ingest)
		c.present(desc, data)
	}
}

// hold holds content twice at the same time.
func (c *storeCheck) hold() {
	holder, ok := c.store.(content.Holder)
	if !ok {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	desc, data := testBlob(14, 500)
	for range 2 { // in the second round all calls of the first are released
		first, err := holder.Hold(ctx)
		if !c.must(err == nil, "Hold: %v", err) {
			return
		}
		second, err := holder.Hold(ctx)
		if !c.must(err == nil, "Hold while another call holds: %v", err) {
			first()
			return
		}
		first()
		first()
		if has, err := c.store.Has(ctx, desc); err == nil && !has {
			if ingest := c.ingest(desc); ingest != nil {
				c.write(ingest, data, 0)
				c.finish(ingest)
			}
		}
		c.present(desc, data)
		second()
	}
	release, err := holder.Hold(ctx)
	if c.must(err == nil, "Hold: %v", err) {
		cancel()
		release() // also after the end of the context
	}
}

// held holds the content that a check stores and names, if the store removes content without a
// name: when a name moves, the former content does not have a name any more.
func (c *storeCheck) held() (release func()) {
	holder, ok := c.store.(content.Holder)
	if !ok {
		return func() {}
	}
	release, err := holder.Hold(context.Background())
	if !c.must(err == nil, "Hold: %v", err) {
		return func() {}
	}
	return release
}

func (c *storeCheck) tag() {
	defer c.held()()
	ctx := context.Background()
	ref := reference.MustParse("registry.example/team/app:v1")
	var descs []ocispec.Descriptor
	for seed := range uint64(2) {
		desc, data := testBlob(60+seed, 500)
		if seed == 0 {
			err := c.store.Tag(ctx, ref, desc)
			c.must(err != nil, "Tag of content that is not stored succeeds")
		}
		ingest := c.ingest(desc)
		if ingest == nil {
			return
		}
		c.write(ingest, data, 0)
		c.finish(ingest)
		descs = append(descs, desc)
	}
	pinned := reference.MustParse("registry.example/team/app@" + string(descs[1].Digest))
	for _, step := range []struct {
		ref  reference.Reference
		desc ocispec.Descriptor
	}{{ref, descs[0]}, {pinned, descs[1]}, {ref, descs[0]}, {ref, descs[1]}} {
		err := c.store.Tag(ctx, step.ref, step.desc)
		c.must(err == nil, "Tag: %v", err)
		got, err := c.store.Lookup(ctx, step.ref)
		c.must(err == nil && got.Digest == step.desc.Digest && got.Size == step.desc.Size && got.MediaType == step.desc.MediaType,
			"Lookup after Tag: %+v, %v, want %+v", got, err, step.desc)
	}
	_, err := c.store.Lookup(ctx, reference.MustParse("registry.example/team/app:v2"))
	c.must(errors.Is(err, fs.ErrNotExist), "Lookup of another tag: %v, want fs.ErrNotExist", err)
}

// tagIndex tags an index of which one image is stored and another one is not, as after a
// pull for one platform.
func (c *storeCheck) tagIndex() {
	defer c.held()()
	ctx := context.Background()
	put := func(mediaType, data string) ocispec.Descriptor {
		desc := ocispec.Descriptor{MediaType: mediaType, Digest: fakeregistry.SHA256([]byte(data)), Size: int64(len(data))}
		if ingest := c.ingest(desc); ingest != nil {
			c.write(ingest, []byte(data), 0)
			c.finish(ingest)
		}
		return desc
	}
	config := put(ocispec.MediaTypeImageConfig, `{"architecture":"amd64","os":"linux"}`)
	manifest := put(ocispec.MediaTypeImageManifest, fmt.Sprintf(
		`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[]}`,
		ocispec.MediaTypeImageManifest, config.MediaType, config.Digest, config.Size))
	absent, _ := testBlob(61, 300)
	index := put(ocispec.MediaTypeImageIndex, fmt.Sprintf(
		`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"linux","architecture":"arm64"}},`+
			`{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"linux","architecture":"amd64"}}]}`,
		ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, absent.Digest, absent.Size,
		ocispec.MediaTypeImageManifest, manifest.Digest, manifest.Size))
	ref := reference.MustParse("registry.example/team/index:v1")
	for _, desc := range []ocispec.Descriptor{index, manifest, index} {
		err := c.store.Tag(ctx, ref, desc)
		c.must(err == nil, "Tag: %v", err)
		got, err := c.store.Lookup(ctx, ref)
		c.must(err == nil && got.Digest == desc.Digest && got.Size == desc.Size && got.MediaType == desc.MediaType,
			"Lookup after Tag: %+v, %v, want what was tagged, %+v", got, err, desc)
	}
	c.byDigest(index, manifest, absent)
	outer := put(ocispec.MediaTypeImageIndex, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageIndex, index.MediaType, index.Digest, index.Size))
	nested := reference.MustParse("registry.example/team/nested:v1")
	err := c.store.Tag(ctx, nested, outer)
	c.must(err == nil, "Tag: %v", err)
	for _, desc := range []ocispec.Descriptor{outer, index, manifest} {
		got, err := c.lookup("registry.example/team/nested@" + string(desc.Digest))
		c.must(err == nil && got.Digest == desc.Digest, "Lookup by a digest in an index within the tagged index: %+v, %v, want %+v", got, err, desc)
	}
}

// byDigest looks up the index that registry.example/team/index:v1 was tagged with, by
// names that were not tagged.
func (c *storeCheck) byDigest(index, manifest, absent ocispec.Descriptor) {
	for _, name := range []string{"registry.example/team/index", "registry.example/team/index:v1", "registry.example/team/index:other"} {
		for _, desc := range []ocispec.Descriptor{index, manifest} {
			got, err := c.lookup(name + "@" + string(desc.Digest))
			c.must(err == nil && got.Digest == desc.Digest && got.Size == desc.Size && got.MediaType == desc.MediaType,
				"Lookup of %s by digest: %+v, %v, want %+v", name, got, err, desc)
		}
	}
	for _, name := range []string{
		"registry.example/team/index@" + string(absent.Digest), // its manifest is not stored
		"registry.example/team/index:other",
		"registry.example/team/copy@" + string(index.Digest), // another repository, whose users may not have access
		"registry.example/team/copy@" + string(manifest.Digest),
		"registry.example/team/inde@" + string(index.Digest),
		"registry.example/team/index/sub@" + string(index.Digest),
	} {
		_, err := c.lookup(name)
		c.must(errors.Is(err, fs.ErrNotExist), "Lookup of %s: %v, want fs.ErrNotExist", name, err)
	}
}

func (c *storeCheck) lookup(name string) (ocispec.Descriptor, error) {
	return c.store.Lookup(context.Background(), reference.MustParse(name))
}

// The remaining checks are about callers that wait for each other.

func (c *storeCheck) cancelledWait() {
	desc, _ := testBlob(7, 100)
	first := c.ingest(desc)
	if first == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	second, err := c.store.Ingest(ctx, desc)
	if !c.must(errors.Is(err, context.DeadlineExceeded), "Ingest while another is open: %v, want to wait until the context ends", err) && err == nil {
		_ = second.Close()
	}
	err = first.Close()
	c.must(err == nil, "Close: %v", err)
}

// behind starts an ingest that has to wait, because another ingest of desc is open. The
// channel receives its error.
func (c *storeCheck) behind(desc ocispec.Descriptor) <-chan error {
	result := make(chan error, 1)
	go func() {
		ingest, err := c.store.Ingest(context.Background(), desc)
		if err == nil {
			err = ingest.Close()
		}
		result <- err
	}()
	return result
}

func (c *storeCheck) waitForCommit() {
	desc, data := testBlob(8, 100)
	first := c.ingest(desc)
	if first == nil {
		return
	}
	second := c.behind(desc)
	c.write(first, data, 0)
	c.finish(first)
	err := <-second
	c.must(errors.Is(err, fs.ErrExist), "Ingest while another commits: %v, want fs.ErrExist", err)
}

func (c *storeCheck) waitForClose() {
	desc, _ := testBlob(9, 100)
	first := c.ingest(desc)
	if first == nil {
		return
	}
	second := c.behind(desc)
	err := first.Close()
	c.must(err == nil, "Close: %v", err)
	err = <-second
	c.must(err == nil, "Ingest while another closes: %v", err)
}

// manyAtOnce stores several blobs in parallel, each written by several goroutines if it
// takes bytes in any order.
func (c *storeCheck) manyAtOnce() {
	const part = 64 << 10
	var stored sync.WaitGroup
	for seed := range uint64(8) {
		stored.Go(func() {
			desc, data := testBlob(100+seed, 4*part)
			ingest := c.ingest(desc)
			if ingest == nil {
				return
			}
			var written sync.WaitGroup
			_, ordered := c.begins(ingest)
			for off := int64(0); off < desc.Size; off += part {
				written.Go(func() { c.write(ingest, data[off:off+part], off) })
				if ordered {
					written.Wait()
				}
			}
			written.Wait()
			c.finish(ingest)
			c.present(desc, data)
			err := c.store.Tag(context.Background(), reference.MustParse(fmt.Sprintf("registry.example/app%d:v1", seed)), desc)
			c.must(err == nil, "Tag: %v", err)
		})
	}
	stored.Wait()
	for seed := range uint64(8) {
		desc, _ := testBlob(100+seed, 4*part)
		got, err := c.store.Lookup(context.Background(), reference.MustParse(fmt.Sprintf("registry.example/app%d:v1", seed)))
		c.must(err == nil && got.Digest == desc.Digest, "Lookup: %s, %v, want %s", got.Digest, err, desc.Digest)
	}
}

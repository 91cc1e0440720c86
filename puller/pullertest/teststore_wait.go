package pullertest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/reference"
)

// What a Store owes those who wait for each other.

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

// behind begins an ingest while another is open; the channel gives what came of it.
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

// manyAtOnce stores blobs at once, each written by several goroutines.
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
			for off := int64(0); off < desc.Size; off += part {
				written.Go(func() { c.write(ingest, data[off:off+part], off) })
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

package rootfs

import (
	"context"
	"errors"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
)

// Pull calls pull, which pulls an image into store. In parallel, Pull makes the root file system
// of the image in dir, as Unpack does: it unpacks layers that have arrived while others are still
// fetched. pull must pass all events of the pull to events, for example by the field Events of a
// puller.Config:
//
//	pull := func(ctx context.Context, events func(puller.Event)) (puller.Image, error) {
//		p, err := puller.New(puller.Config{Runtime: runtime, Events: events})
//		if err != nil {
//			return puller.Image{}, err
//		}
//		return p.Pull(ctx, puller.Request{Image: "busybox:1.36"})
//	}
//	img, result, err := rootfs.Pull(ctx, store, "busybox", rootfs.Config{}, pull)
//
// If pull does not pass events, or if the store has the image already, Pull makes the root file
// system after the pull. pull must not pass events of other images. If the root file system
// cannot be made, the context that pull got ends.
//
// The error is that of pull, an error as Unpack returns it, or the error of looking up the
// pulled image in the store.
func Pull(ctx context.Context, store content.Store, dir string, cfg Config, pull func(ctx context.Context, events func(puller.Event)) (puller.Image, error)) (puller.Image, Result, error) {
	pulling, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	a := &arrivals{stored: map[digest.Digest]bool{}}
	a.changed.L = &a.mu
	var early sync.WaitGroup
	defer early.Wait()
	unpacking, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	var result Result
	var unpackErr error
	var panicked *panics.Error // of the Store
	early.Go(func() {
		panics.Catch(func() {
			manifest, err := a.first(unpacking)
			if err != nil {
				unpackErr = err
				return
			}
			u := &unpacker{store: store, cfg: cfg, dir: dir, wait: a.wait, ready: a.ready}
			result, unpackErr = u.run(unpacking, manifest)
		}, func(p *panics.Error) {
			panicked = p
			if p != nil || unpackErr != nil && unpacking.Err() == nil {
				stop(errUnpack)
			}
		})
	})
	img, err := pull(pulling, a.event)
	switch {
	case err != nil && context.Cause(pulling) == errUnpack:
		early.Wait()
		panicked.Raise()
		return puller.Image{}, Result{}, unpackErr
	case err != nil:
		return puller.Image{}, Result{}, err
	}
	if a.finish(img.Manifest) {
		early.Wait()
		panicked.Raise()
		return img, result, unpackErr
	}
	leave(errOther)
	early.Wait()
	ref, err := img.Ref.WithoutTag().WithDigest(img.Manifest)
	if err != nil {
		return img, Result{}, err
	}
	manifest, err := store.Lookup(ctx, ref)
	if err != nil {
		return img, Result{}, err
	}
	result, err = Unpack(ctx, store, manifest, dir, cfg)
	return img, result, err
}

var (
	errUnpack = errors.New("the root file system cannot be made")
	errOther  = errors.New("another image is unpacked")
)

// arrivals knows from the events of a pull which blobs the Store has.
type arrivals struct {
	mu       sync.Mutex
	changed  sync.Cond
	manifest *ocispec.Descriptor // of the first event that has one; nil before
	stored   map[digest.Digest]bool
	over     bool // the pull has succeeded
}

// event notes the manifest and the stored blob that an event names.
func (a *arrivals) event(e puller.Event) {
	if e.Progress == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.manifest == nil {
		a.manifest = e.Progress.Manifest
	}
	if s := e.Progress.State; s == puller.BlobStored || s == puller.BlobPresent {
		a.stored[e.Progress.Blob.Digest] = true
	}
	a.changed.Broadcast()
}

// finish says that the pull has succeeded. It reports whether the pulled manifest is the
// manifest that is being unpacked.
func (a *arrivals) finish(pulled digest.Digest) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = a.manifest != nil && a.manifest.Digest == pulled
	a.changed.Broadcast()
	return a.over
}

func (a *arrivals) wake() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changed.Broadcast()
}

// first waits for the manifest.
func (a *arrivals) first(ctx context.Context) (ocispec.Descriptor, error) {
	if err := a.until(ctx, func() bool { return a.manifest != nil }); err != nil {
		return ocispec.Descriptor{}, err
	}
	return *a.manifest, nil
}

// wait waits until the Store has a blob.
func (a *arrivals) wait(ctx context.Context, desc ocispec.Descriptor) error {
	return a.until(ctx, func() bool { return a.over || a.stored[desc.Digest] })
}

// ready waits until the pull has succeeded.
func (a *arrivals) ready(ctx context.Context) error {
	return a.until(ctx, func() bool { return a.over })
}

// until waits until holds returns true. It calls holds with the lock.
func (a *arrivals) until(ctx context.Context, holds func() bool) error {
	stop := context.AfterFunc(ctx, a.wake)
	defer stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	for !holds() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		a.changed.Wait()
	}
	return nil
}

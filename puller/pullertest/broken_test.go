package pullertest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A badStore is a MemStore with one faulty method, which replaces that of the MemStore.
type badStore struct {
	*pullertest.MemStore
	lookup func(reference.Reference) (ocispec.Descriptor, error)
	has    func(ocispec.Descriptor) (bool, error)
	open   func(ocispec.Descriptor) (io.ReadCloser, error)
	ingest func(context.Context, ocispec.Descriptor) (content.Ingest, error)
	tag    func(reference.Reference, ocispec.Descriptor) error
	hold   func(context.Context) (func(), error)
}

func (b *badStore) Lookup(ctx context.Context, ref reference.Reference) (ocispec.Descriptor, error) {
	if b.lookup != nil {
		return b.lookup(ref)
	}
	return b.MemStore.Lookup(ctx, ref)
}

func (b *badStore) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if b.has != nil {
		return b.has(desc)
	}
	return b.MemStore.Has(ctx, desc)
}

func (b *badStore) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if b.open != nil {
		return b.open(desc)
	}
	return b.MemStore.Open(ctx, desc)
}

func (b *badStore) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	if b.ingest != nil {
		return b.ingest(ctx, desc)
	}
	return b.MemStore.Ingest(ctx, desc)
}

func (b *badStore) Tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error {
	if b.tag != nil {
		return b.tag(ref, desc)
	}
	return b.MemStore.Tag(ctx, ref, desc)
}

// A badIngest is an Ingest with one faulty method.
type badIngest struct {
	content.Ingest
	have    iter.Seq2[int64, int64]
	discard func() error
	readAt  func([]byte, int64) (int, error)
}

func (b *badIngest) Have() iter.Seq2[int64, int64] {
	if b.have != nil {
		return b.have
	}
	return b.Ingest.Have()
}

func (b *badIngest) Discard() error {
	if b.discard != nil {
		return b.discard()
	}
	return b.Ingest.Discard()
}

func (b *badIngest) ReadAt(p []byte, off int64) (int, error) {
	if b.readAt != nil {
		return b.readAt(p, off)
	}
	return b.Ingest.ReadAt(p, off)
}

func TestBrokenStoresAreFound(t *testing.T) {
	// with makes the ingests of a store faulty.
	with := func(change func(content.Ingest, ocispec.Descriptor) *badIngest) func(*badStore) {
		return func(b *badStore) {
			b.ingest = func(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
				ingest, err := b.MemStore.Ingest(ctx, desc)
				if err != nil {
					return nil, err
				}
				return change(ingest, desc), nil
			}
		}
	}
	for name, tt := range map[string]struct {
		spoil func(*badStore)
		wrong string
	}{
		"look-up of nothing": {func(b *badStore) {
			b.lookup = func(reference.Reference) (ocispec.Descriptor, error) { return ocispec.Descriptor{}, nil }
		}, "empty store: Lookup: <nil>"},
		"has everything": {func(b *badStore) { b.has = func(ocispec.Descriptor) (bool, error) { return true, nil } }, "commit: Has: true"},
		"has nothing":    {func(b *badStore) { b.has = func(ocispec.Descriptor) (bool, error) { return false, nil } }, "commit: Has after Commit: false"},
		"ignores sizes": {func(b *badStore) {
			b.has = func(desc ocispec.Descriptor) (bool, error) {
				body, err := b.MemStore.Open(t.Context(), desc)
				if err == nil {
					err = body.Close()
				}
				return err == nil, nil
			}
		}, "another size: Has: true"},
		"other bytes": {func(b *badStore) {
			b.open = func(ocispec.Descriptor) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(nil)), nil }
		}, "commit: Open after Commit: 0 bytes"},
		"another error": {func(b *badStore) {
			b.open = func(ocispec.Descriptor) (io.ReadCloser, error) { return nil, errors.New("none") }
		}, "empty store: Open: none"},
		"no waiting": {func(b *badStore) {
			b.ingest = func(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
				if ok, _ := b.MemStore.Has(ctx, desc); ok {
					return nil, fs.ErrExist
				}
				return (&pullertest.MemStore{}).Ingest(ctx, desc)
			}
		}, "cancelled wait: Ingest while another is open: <nil>"},
		"tags what is not stored": {func(b *badStore) {
			b.tag = func(reference.Reference, ocispec.Descriptor) error { return nil }
		}, "tag: Tag of content that is not stored succeeds"},
		"finds a digest only by the whole name": {func(b *badStore) {
			b.lookup = func(ref reference.Reference) (ocispec.Descriptor, error) {
				if ref.Repository() == "team/index" && ref.Digest() != "" {
					return ocispec.Descriptor{}, fs.ErrNotExist
				}
				return b.MemStore.Lookup(t.Context(), ref)
			}
		}, "tag of an index: Lookup of registry.example/team/index by digest"},
		"finds a digest in any repository": {func(b *badStore) {
			b.lookup = func(ref reference.Reference) (ocispec.Descriptor, error) {
				if ref.Repository() == "team/copy" {
					ref = reference.MustParse("registry.example/team/index@" + string(ref.Digest()))
				}
				return b.MemStore.Lookup(t.Context(), ref)
			}
		}, "tag of an index: Lookup of registry.example/team/copy@"},
		"claims bytes": {with(func(i content.Ingest, desc ocispec.Descriptor) *badIngest {
			return &badIngest{Ingest: i, have: func(yield func(int64, int64) bool) { yield(0, desc.Size) }}
		}), "commit: Have of a new ingest yields something"},
		"claims bytes in a wrong order": {with(func(i content.Ingest, desc ocispec.Descriptor) *badIngest {
			return &badIngest{Ingest: i, have: func(yield func(int64, int64) bool) { _ = yield(10, 1) && yield(0, 1) }}
		}), "close and resume: Have yields 1 bytes at 0 after byte 11"},
		"discards nothing": {with(func(i content.Ingest, _ ocispec.Descriptor) *badIngest {
			return &badIngest{Ingest: i, discard: i.Close}
		}), "discard: Have after Discard yields 3000 bytes at 0"},
		"reads other bytes": {with(func(i content.Ingest, _ ocispec.Descriptor) *badIngest {
			return &badIngest{Ingest: i, readAt: func(p []byte, _ int64) (int, error) { return len(p), nil }}
		}), "commit: ReadAt"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := pullertest.TestStore(func() (content.Store, error) {
					b := &badStore{MemStore: &pullertest.MemStore{}}
					tt.spoil(b)
					return b, nil
				})
				assert.ErrorContains(t, err, tt.wrong)
			})
		})
	}
	err := pullertest.TestStore(func() (content.Store, error) { return nil, errors.New("no store today") })
	assert.EqualError(t, err, "new store: no store today")
}

// A badAppend is an ingest of a MemStore in order, with faulty methods.
type badAppend struct {
	content.Ingest
	offset  func(int64) int64
	writeAt func(in content.Ingest, p []byte, off int64) (int, error)
	commit  func(content.Ingest) error
}

func (b *badAppend) Offset() int64 {
	at := b.Ingest.(content.OrderedIngest).Offset()
	if b.offset != nil {
		return b.offset(at)
	}
	return at
}

func (b *badAppend) Verifies() bool { return true }

func (b *badAppend) WriteAt(p []byte, off int64) (int, error) {
	if b.writeAt != nil {
		return b.writeAt(b.Ingest, p, off)
	}
	return b.Ingest.WriteAt(p, off)
}

func (b *badAppend) Commit(ctx context.Context) error {
	if b.commit != nil {
		return b.commit(b.Ingest)
	}
	return b.Ingest.Commit(ctx)
}

func (b *badStore) Hold(ctx context.Context) (func(), error) {
	if b.hold != nil {
		return b.hold(ctx)
	}
	return func() {}, nil
}

func TestBrokenStoresThatAppendAreFound(t *testing.T) {
	with := func(spoil badAppend) func(*badStore) {
		return func(b *badStore) {
			b.ingest = func(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
				ingest, err := b.MemStore.Ingest(ctx, desc)
				if err != nil {
					return nil, err
				}
				bad := spoil
				bad.Ingest = ingest
				return &bad, nil
			}
		}
	}
	held := false
	for name, tt := range map[string]struct {
		spoil func(*badStore)
		wrong string
	}{
		"claims bytes": {with(badAppend{offset: func(at int64) int64 { return at + 1 }}), "commit: Offset of a new ingest: 1"},
		"never moves":  {with(badAppend{offset: func(int64) int64 { return 0 }}), "commit: Offset after 100000 bytes were written at 0: 0"},
		"takes bytes in any order": {with(badAppend{writeAt: func(_ content.Ingest, p []byte, _ int64) (int, error) { return len(p), nil }}),
			"bytes out of order: WriteAt at byte 2500 succeeds, and byte 1000 is next"},
		"writes less": {with(badAppend{writeAt: func(in content.Ingest, p []byte, off int64) (int, error) { return in.WriteAt(p[:len(p)/2], off) }}),
			"commit: WriteAt: 50000, <nil>, want 100000"},
		"verifies nothing": {with(badAppend{commit: func(content.Ingest) error { return nil }}),
			"wrong bytes: Commit of other bytes: <nil>, want content.ErrDigestMismatch"},
		"refuses without a reason": {with(badAppend{commit: func(in content.Ingest) error {
			if err := in.Commit(t.Context()); err != nil {
				return errors.New("no")
			}
			return nil
		}}), "wrong bytes: Commit of other bytes that an earlier try left: no, want content.ErrDigestMismatch"},
		"keeps what it has refused": {with(badAppend{commit: func(in content.Ingest) error {
			return errors.Join(&content.Error{Reason: content.ErrDigestMismatch}, in.Close())
		}}), "wrong bytes: Have yields 5000 bytes at 0 after Commit has refused them"},
		"needs the context to end": {func(b *badStore) {
			b.ingest = func(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
				ingest, err := b.MemStore.Ingest(ctx, desc)
				if err != nil {
					return nil, err
				}
				return &badIngest{Ingest: ingest, discard: func() error { return errors.Join(ctx.Err(), ingest.Discard()) }}, nil
			}
		}, "the context of an ingest ends: Close or Discard after the end of the context: context canceled"},
		"is held once": {func(b *badStore) {
			b.hold = func(context.Context) (func(), error) {
				if held {
					return nil, errors.New("held")
				}
				held = true
				return func() { held = false }, nil
			}
		}, "hold: Hold while another call holds: held"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := pullertest.TestStore(func() (content.Store, error) {
					b := &badStore{MemStore: &pullertest.MemStore{InOrder: true}}
					tt.spoil(b)
					return b, nil
				})
				assert.ErrorContains(t, err, tt.wrong)
			})
		})
	}
}

// A badSource is a Source with one faulty method.
type badSource struct {
	content.Source
	manifest func(ctx context.Context, repo content.Repo, have digest.Digest) (content.Document, error)
	blob     func(ctx context.Context, repo content.Repo, desc ocispec.Descriptor, off, n int64) (content.Body, error)
}

func (b *badSource) Manifest(ctx context.Context, repo content.Repo, have digest.Digest) (content.Document, error) {
	if b.manifest != nil {
		return b.manifest(ctx, repo, have)
	}
	return b.Source.Manifest(ctx, repo, have)
}

func (b *badSource) Blob(ctx context.Context, repo content.Repo, desc ocispec.Descriptor, off, n int64) (content.Body, error) {
	if b.blob != nil {
		return b.blob(ctx, repo, desc, off, n)
	}
	return b.Source.Blob(ctx, repo, desc, off, n)
}

func TestBrokenSourcesAreFound(t *testing.T) {
	right := credentials.Credential{Username: "robot", Password: credentials.Conceal("right")}
	for name, tt := range map[string]struct {
		spoil func(*badSource)
		wrong string
	}{
		"always the body": {func(b *badSource) {
			b.manifest = func(ctx context.Context, repo content.Repo, _ digest.Digest) (content.Document, error) {
				return b.Source.Manifest(ctx, repo, "")
			}
		}, "manifest that the caller has: Manifest with the digest that the caller has"},
		"a credential of its own": {func(b *badSource) {
			b.manifest = func(ctx context.Context, repo content.Repo, have digest.Digest) (content.Document, error) {
				return b.Source.Manifest(ctx, content.Repo{Ref: repo.Ref, Cred: right}, have)
			}
		}, "credentials, Basic: Manifest with a wrong credential: <nil>"},
		"errors without a reason": {func(b *badSource) {
			b.manifest = func(ctx context.Context, repo content.Repo, have digest.Digest) (content.Document, error) {
				doc, err := b.Source.Manifest(ctx, repo, have)
				if err != nil {
					err = errors.New(err.Error())
				}
				return content.Document{Desc: doc.Desc, Body: doc.Body}, err
			}
		}, "want fs.ErrNotExist"},
		"a range that lies": {func(b *badSource) {
			b.blob = func(ctx context.Context, repo content.Repo, desc ocispec.Descriptor, off, _ int64) (content.Body, error) {
				body, err := b.Source.Blob(ctx, repo, desc, 0, -1)
				return content.Body{ReadCloser: body, Start: off}, err
			}
		}, "blob: Blob, -1 bytes from 1"},
		"ends early": {func(b *badSource) {
			b.blob = func(ctx context.Context, repo content.Repo, desc ocispec.Descriptor, off, n int64) (content.Body, error) {
				body, err := b.Source.Blob(ctx, repo, desc, off, n)
				if err != nil {
					return content.Body{}, err
				}
				return content.Body{ReadCloser: readCloser{io.LimitReader(body, 1000), body}, Start: body.Start}, nil
			}
		}, "cut connections: Blob over connections that are cut"},
		"no context": {func(b *badSource) {
			b.manifest = func(_ context.Context, repo content.Repo, have digest.Digest) (content.Document, error) {
				return b.Source.Manifest(context.Background(), repo, have)
			}
		}, "cancelled: Manifest with a context that has ended: <nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := &pullertest.Network{}
				err := pullertest.TestSource(network, func(host string) (content.Source, error) {
					b := &badSource{Source: newClient(t, network, host)}
					tt.spoil(b)
					return b, nil
				})
				assert.ErrorContains(t, err, tt.wrong)
			})
		})
	}
}

type readCloser struct {
	io.Reader
	io.Closer
}

// A badRuntime is a Runtime with one faulty method.
type badRuntime struct {
	puller.Runtime
	status func(context.Context, puller.Spec) (puller.Image, error)
	pull   func(context.Context, puller.Spec) (puller.Image, error)
	// chooses makes Resolve return the digest of Plan, which depends on the platform.
	chooses bool
	inspect func(*content.Admission) // spoils what Inspect returns
}

func (b *badRuntime) Resolve(ctx context.Context, spec puller.Spec) (digest.Digest, error) {
	if b.chooses {
		plan, err := b.Runtime.(puller.Planner).Plan(ctx, spec)
		return plan.Digest, err
	}
	return b.Runtime.(puller.Resolver).Resolve(ctx, spec)
}

func (b *badRuntime) Status(ctx context.Context, spec puller.Spec) (puller.Image, error) {
	if b.status != nil {
		return b.status(ctx, spec)
	}
	return b.Runtime.Status(ctx, spec)
}

func (b *badRuntime) Pull(ctx context.Context, spec puller.Spec) (puller.Image, error) {
	if b.pull != nil {
		return b.pull(ctx, spec)
	}
	return b.Runtime.Pull(ctx, spec)
}

func (b *badRuntime) Inspect(ctx context.Context, spec puller.Spec) (content.Admission, error) {
	image, err := b.Runtime.(puller.Inspector).Inspect(ctx, spec)
	if b.inspect != nil && err == nil {
		b.inspect(&image)
	}
	return image, err
}

func TestBrokenRuntimesAreFound(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(*badRuntime)
		wrong string
	}{
		"never present": {func(b *badRuntime) {
			b.status = func(context.Context, puller.Spec) (puller.Image, error) { return puller.Image{}, fs.ErrNotExist }
		}, "pull: Status after Pull"},
		"always present": {func(b *badRuntime) {
			b.status = func(context.Context, puller.Spec) (puller.Image, error) { return puller.Image{}, nil }
		}, "pull: Status before Pull: <nil>"},
		"present is enough": {func(b *badRuntime) {
			b.pull = func(ctx context.Context, spec puller.Spec) (puller.Image, error) {
				if img, err := b.Status(ctx, spec); err == nil {
					return img, nil
				}
				return b.Runtime.Pull(ctx, spec)
			}
		}, "pull again: Pull again does not ask the registry"},
		"another image": {func(b *badRuntime) {
			b.pull = func(ctx context.Context, spec puller.Spec) (puller.Image, error) {
				img, err := b.Runtime.Pull(ctx, spec)
				img.Digest = digest.FromString("another")
				return img, err
			}
		}, "pull: the image's digest is"},
		"asks no check": {func(b *badRuntime) {
			b.pull = func(ctx context.Context, spec puller.Spec) (puller.Image, error) {
				spec.Admit = nil
				return b.Runtime.Pull(ctx, spec)
			}
		}, "admission: Pull does not call Spec.Admit"},
		"does not obey the check": {func(b *badRuntime) {
			b.pull = func(ctx context.Context, spec puller.Spec) (puller.Image, error) {
				if admit := spec.Admit; admit != nil {
					spec.Admit = func(ctx context.Context, image content.Admission) error {
						_ = admit(ctx, image) // the fault
						return nil
					}
				}
				return b.Runtime.Pull(ctx, spec)
			}
		}, "admission: Pull of an image that Spec.Admit refuses: <nil>"},
		"asks after the blobs": {func(b *badRuntime) {
			b.pull = func(ctx context.Context, spec puller.Spec) (puller.Image, error) {
				admit := spec.Admit
				spec.Admit = nil
				img, err := b.Runtime.Pull(ctx, spec)
				if err != nil || admit == nil {
					return img, err
				}
				image, err := b.Inspect(ctx, spec)
				if err != nil {
					return img, err
				}
				return img, admit(ctx, image)
			}
		}, "admission: a blob of an image that Spec.Admit refuses is fetched"},
		"describes another image": {func(b *badRuntime) {
			b.inspect = func(image *content.Admission) { image.Top.Digest = digest.FromString("another") }
		}, "admission: Admission.Top is"},
		"a digest for one platform only": {func(b *badRuntime) { b.chooses = true }, "resolve: Resolve: , no such platform: no match"},
		"progress that goes back": {func(b *badRuntime) {
			b.pull = func(ctx context.Context, spec puller.Spec) (puller.Image, error) {
				report := spec.Progress
				if report == nil {
					return b.Runtime.Pull(ctx, spec)
				}
				var last puller.Progress
				spec.Progress = func(p puller.Progress) { last = p; report(p) }
				img, err := b.Runtime.Pull(ctx, spec)
				last.Done = -1
				report(last)
				return img, err
			}
		}, "progress: Done of"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := &pullertest.Network{}
				err := pullertest.TestRuntime(network, func(host string) (puller.Runtime, error) {
					rt, err := transfer.New(transfer.Config{Source: newClient(t, network, host), Store: &pullertest.MemStore{}})
					require.NoError(t, err)
					b := &badRuntime{Runtime: rt}
					tt.spoil(b)
					return b, nil
				})
				assert.ErrorContains(t, err, tt.wrong)
			})
		})
	}
}

// A countingRuntime counts pulls and keeps the images; it accepts one password.
type countingRuntime struct {
	asked, pulled atomic.Int64
	mu            sync.Mutex
	images        map[reference.Reference]puller.Image
}

func (c *countingRuntime) Status(_ context.Context, spec puller.Spec) (puller.Image, error) {
	c.asked.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if img, ok := c.images[spec.Ref]; ok {
		return img, nil
	}
	return puller.Image{}, fs.ErrNotExist
}

func (c *countingRuntime) Pull(_ context.Context, spec puller.Spec) (puller.Image, error) {
	c.pulled.Add(1)
	if spec.Credential.Password.Reveal() != "right" {
		return puller.Image{}, fs.ErrPermission
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.images == nil {
		c.images = map[reference.Reference]puller.Image{}
	}
	c.images[spec.Ref] = puller.Image{Ref: spec.Ref, ID: "sha256:1"}
	return c.images[spec.Ref], nil
}

// A Runtime need not know registries. Policy and credentials are the Puller's part, and this
// Runtime only accepts or refuses what the Puller asks of it.
func TestAnyRuntimePlugsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := &countingRuntime{}
		p, err := puller.New(puller.Config{Runtime: rt, Keyring: credentials.Static{
			{Username: "robot", Password: credentials.Conceal("stale")},
			{Username: "robot", Password: credentials.Conceal("right")},
		}})
		require.NoError(t, err)
		img, err := p.Pull(t.Context(), puller.Request{Image: "registry.example/team/app:v1"})
		require.NoError(t, err)
		assert.Equal(t, "sha256:1", img.ID)
		assert.EqualValues(t, 2, rt.pulled.Load(), "the stale credential, then the right one")
		_, err = p.Pull(t.Context(), puller.Request{Image: "registry.example/team/app:v1"})
		require.NoError(t, err)
		assert.EqualValues(t, 2, rt.pulled.Load(), "present, so not pulled under IfNotPresent")
		_, err = p.Pull(t.Context(), puller.Request{Image: "registry.example/team/app:v1", Policy: pullpolicy.Always})
		require.NoError(t, err)
		assert.EqualValues(t, 4, rt.pulled.Load(), "asked again under Always")
		_, err = p.Pull(t.Context(), puller.Request{Image: "registry.example/other:v1", Policy: pullpolicy.Never})
		assert.ErrorIs(t, err, puller.ErrImageNeverPull)
		assert.EqualValues(t, 4, rt.pulled.Load())
	})
}

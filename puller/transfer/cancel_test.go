package transfer_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type slowHash struct{ hash.Hash }

func (h slowHash) Write(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return h.Hash.Write(p)
}

// A blob of which all was kept is only hashed: no connection is there to end with the context.
func TestCancelledWhileKeptBytesAreHashed(t *testing.T) {
	for _, size := range []int{1 << 20, 64 << 20} {
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			layer := random(1, size)
			store.keep(t, layer, [2]int64{0, int64(size)})
			ref := src.name(appName, src.image(t, amd64, layer))
			rt := transfer.New(transfer.Config{Source: src, Store: store, NewHash: func(digest.Algorithm) hash.Hash {
				return slowHash{sha256.New()}
			}})
			ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Microsecond)
			defer cancel()
			began := time.Now()
			_, err := rt.Pull(ctx, spec(ref))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.LessOrEqual(t, time.Since(began), 5*time.Millisecond)
			assert.Contains(t, store.partials, digestOf(layer), "it is kept")
			store.clean(t)
		})
	}
}

// A hook that gives up because the caller did has refused nothing.
func TestCancelledInAdmit(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	ref := src.name(appName, src.image(t, amd64, random(1, 100)))
	ctx, cancel := context.WithCancel(t.Context())
	admit := func(ctx context.Context, _ reference.Reference, _ ocispec.Descriptor, _ []byte) error {
		cancel()
		<-ctx.Done()
		return errors.Join(errors.New("no answer"), ctx.Err())
	}
	_, err := transfer.New(transfer.Config{Source: src, Store: store, Admit: admit}).Pull(ctx, spec(ref))
	require.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, puller.ErrSignatureValidation)
	assert.Empty(t, content.KindOf(err))

	admit = func(context.Context, reference.Reference, ocispec.Descriptor, []byte) error {
		return context.DeadlineExceeded
	}
	_, err = transfer.New(transfer.Config{Source: src, Store: store, Admit: admit}).Pull(t.Context(), spec(ref))
	assert.ErrorIs(t, err, puller.ErrSignatureValidation, "its own limit is a refusal")
}

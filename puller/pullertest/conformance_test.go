package pullertest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/require"
)

func TestMemStoreIsAStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, pullertest.TestStore(func() (content.Store, error) { return &pullertest.MemStore{}, nil }))
	})
}

func TestMemStoreInOrderIsAStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, pullertest.TestStore(func() (content.Store, error) { return &pullertest.MemStore{InOrder: true}, nil }))
	})
}

// An appendStore is a MemStore that takes bytes only in order. It does not verify them, and its
// ReadAt returns them.
type appendStore struct{ *pullertest.MemStore }

func (s appendStore) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	ingest, err := s.MemStore.Ingest(ctx, desc)
	if err != nil {
		return nil, err
	}
	a := &appendIngest{Ingest: ingest}
	for off, n := range ingest.Have() {
		a.at = off + n
	}
	return a, nil
}

type appendIngest struct {
	content.Ingest
	at int64
}

func (a *appendIngest) Offset() int64 { return a.at }

func (a *appendIngest) WriteAt(p []byte, off int64) (int, error) {
	if off != a.at {
		return 0, errors.New("out of order")
	}
	n, err := a.Ingest.WriteAt(p, off)
	a.at += int64(n)
	return n, err
}

func TestAStoreThatAppendsWithoutVerifyingIsAStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, pullertest.TestStore(func() (content.Store, error) { return appendStore{&pullertest.MemStore{}}, nil }))
	})
}

func TestLayoutIsAStore(t *testing.T) {
	require.NoError(t, pullertest.TestStore(func() (content.Store, error) {
		l, err := layout.Open(t.TempDir(), layout.Config{})
		if err == nil {
			t.Cleanup(func() { require.NoError(t, l.Close()) })
		}
		return l, err
	}))
}

// newClient returns a Client that reads host over plain http.
func newClient(t *testing.T, network *pullertest.Network, host string) *registry.Client {
	settings := registry.Config{PlainHTTP: []string{host}}
	if network != nil {
		settings.DialContext = network.DialContext
	}
	c, err := registry.New(settings)
	require.NoError(t, err)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// onBoth runs a test twice: on sockets, and in a synctest bubble with a network in memory.
func onBoth(t *testing.T, test func(t *testing.T, network *pullertest.Network)) {
	t.Helper()
	t.Run("sockets", func(t *testing.T) { test(t, nil) })
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, &pullertest.Network{}) })
	})
}

func TestClientIsASource(t *testing.T) {
	onBoth(t, func(t *testing.T, network *pullertest.Network) {
		require.NoError(t, pullertest.TestSource(network, func(host string) (content.Source, error) {
			return newClient(t, network, host), nil
		}))
	})
}

func TestTransferIsARuntime(t *testing.T) {
	onBoth(t, func(t *testing.T, network *pullertest.Network) {
		require.NoError(t, pullertest.TestRuntime(network, func(host string) (puller.Runtime, error) {
			return transfer.New(transfer.Config{Source: newClient(t, network, host), Store: &pullertest.MemStore{}})
		}))
	})
}

func TestTransferIntoAStoreThatAppendsIsARuntime(t *testing.T) {
	for _, newStore := range []func() content.Store{
		func() content.Store { return &pullertest.MemStore{InOrder: true} },
		func() content.Store { return appendStore{&pullertest.MemStore{}} },
	} {
		synctest.Test(t, func(t *testing.T) {
			network := &pullertest.Network{}
			require.NoError(t, pullertest.TestRuntime(network, func(host string) (puller.Runtime, error) {
				return transfer.New(transfer.Config{Source: newClient(t, network, host), Store: newStore()})
			}))
		})
	}
}

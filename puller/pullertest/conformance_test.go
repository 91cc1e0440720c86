package pullertest_test

import (
	"testing"
	"testing/synctest"

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

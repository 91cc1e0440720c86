package containerd_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/containerd"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// onEach runs a test with each containerd.
func onEach(t *testing.T, test func(t *testing.T, d *realtest.Containerd)) {
	for _, program := range []string{realtest.ContainerdProgram, realtest.Containerd2Program} {
		t.Run(program, func(t *testing.T) {
			test(t, realtest.StartContainerd(t, program, nil))
		})
	}
}

// dial connects to a containerd.
func dial(t testing.TB, d *realtest.Containerd, options ...grpc.DialOption) *grpc.ClientConn {
	conn, err := grpc.NewClient("unix://"+d.Socket, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func open(t testing.TB, d *realtest.Containerd, conf containerd.Config, options ...grpc.DialOption) *containerd.Store {
	s, err := containerd.New(dial(t, d, options...), conf)
	require.NoError(t, err)
	return s
}

func TestStoreIsAStore(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		var n atomic.Int64
		require.NoError(t, pullertest.TestStore(func() (content.Store, error) {
			return open(t, d, containerd.Config{Namespace: fmt.Sprint("test-", n.Add(1))}), nil
		}))
	})
}

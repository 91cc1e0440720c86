package transfer_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
)

// A slowTransport takes a round trip of time for each request.
type slowTransport struct {
	base      http.RoundTripper
	roundTrip time.Duration
}

func (s slowTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	time.Sleep(s.roundTrip)
	return s.base.RoundTrip(req)
}

// TestTheSecondImageTakesFourRoundTrips: the second image of a registry in one process
// takes the time of four requests, although it has its own token and ten layers: the
// token, the index, the manifest of the platform, and all blobs at once. The first image
// takes one more request, which is refused.
func TestTheSecondImageTakesFourRoundTrips(t *testing.T) {
	const roundTrip = 100 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		var network pullertest.Network
		reg, err := pullertest.Start(pullertest.Config{
			Network: &network, Auth: pullertest.AuthBearer, Users: []pullertest.User{{Name: "robot", Password: "s3cret-pass"}}})
		require.NoError(t, err)
		defer reg.Close()
		client, err := registry.New(registry.Config{PlainHTTP: []string{reg.Host()}, DialContext: network.DialContext,
			WrapTransport: func(base http.RoundTripper) http.RoundTripper { return slowTransport{base, roundTrip} }})
		require.NoError(t, err)
		defer client.CloseIdleConnections()
		rt := newRuntime(t, transfer.Config{Source: client, Store: &pullertest.MemStore{}})
		for i, requests := range []time.Duration{5, 4} {
			name := fmt.Sprintf("app-%d:v1", i)
			layers := make([]int64, 10)
			for j := range layers {
				layers[j] = int64(200_000 + 1000*i + j)
			}
			_, err := reg.PutImage(name, pullertest.ImageSpec{Layers: layers, Seed: uint64(i),
				Platforms: []ocispec.Platform{amd64, {OS: "linux", Architecture: "arm64"}}})
			require.NoError(t, err)
			began := time.Now()
			_, err = rt.Pull(t.Context(), puller.Spec{Ref: reference.MustParse(reg.Host() + "/" + name), Platform: amd64,
				Credential: credentials.Credential{Username: "robot", Password: credentials.Conceal("s3cret-pass")}})
			require.NoError(t, err)
			assert.Equal(t, requests*roundTrip, time.Since(began))
		}
		assert.Equal(t, 1, reg.Counts().Unauthorized)
	})
}

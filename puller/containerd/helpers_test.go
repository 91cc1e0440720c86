package containerd_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/containerd"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/require"
)

func jsonUnmarshal(data []byte, into any) error { return json.Unmarshal(data, into) }

func withDigest(d *types.Descriptor, to digest.Digest) *types.Descriptor {
	return &types.Descriptor{MediaType: d.MediaType, Digest: string(to), Size: d.Size}
}

// cutPuller returns a Puller whose source calls cut after the given number of bytes of each
// larger blob.
func cutPuller(t *testing.T, store content.Store, after int64, cut func()) *puller.Puller {
	source, err := registry.New(registry.Config{WrapTransport: func(rt http.RoundTripper) http.RoundTripper {
		return &cutter{RoundTripper: rt, after: after, cut: cut}
	}})
	require.NoError(t, err)
	rt, err := transfer.New(transfer.Config{Store: store, Source: source})
	require.NoError(t, err)
	p, err := puller.New(puller.Config{Runtime: rt, Platform: containerd.Platform()})
	require.NoError(t, err)
	return p
}

package puller

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Used gets each image that a call returns, once. It is not called for a call that fails.
func TestUsedGetsEachImageThatACallReturns(t *testing.T) {
	var used []Image
	w := newWorld(t, Config{Used: func(image Image) { used = append(used, image) }})
	pulled, err := w.Pull(t.Context(), Request{Image: "a.example/one:1"})
	require.NoError(t, err)
	assert.Equal(t, []Image{pulled}, used)
	present, err := w.Pull(t.Context(), Request{Image: "a.example/one:1"})
	require.NoError(t, err)
	assert.Equal(t, []Image{pulled, present}, used, "also of an image that was present")
	_, err = w.PullWait(t.Context(), Request{Image: "a.example/one:1"})
	require.NoError(t, err)
	for _, res := range w.PullAll(t.Context(), func(yield func(Request) bool) { yield(Request{Image: "a.example/two:1"}) }) {
		require.NoError(t, res.Err)
	}
	assert.Len(t, used, 4)
	w.runtime.pull = func(context.Context, Spec) (string, error) { return "", errors.New("no") }
	_, err = w.Pull(t.Context(), Request{Image: "a.example/three:1"})
	require.Error(t, err)
	assert.Len(t, used, 4)
}

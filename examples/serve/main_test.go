package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestDemonstrationServesWhatItPulled(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out, errs bytes.Buffer
	require.Equal(t, 0, run(t.Context(), nil, &out, &errs), errs.String())
	assert.Contains(t, out.String(), "from the registry: 5 requests")
	assert.Contains(t, out.String(), "node 1 is asked: GET /v2/team/app/manifests/v1")
	assert.Contains(t, out.String(), "node 2 has the same image: true")
}

// The program pulls on request, serves until it is interrupted, and serves what it has
// recorded after a restart.
func TestServesAndPullsOnRequest(t *testing.T) {
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	defer reg.Close()
	_, err = reg.PutImage("team/app:v1", pullertest.ImageSpec{Platforms: []ocispec.Platform{index.Host()}, Layers: []int64{1000}})
	require.NoError(t, err)
	store := filepath.Join(t.TempDir(), "images")
	get := func(want int, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		r, w := io.Pipe()
		var errs bytes.Buffer
		done := make(chan int)
		go func() {
			done <- run(ctx, append([]string{"-store", store, "-listen", "127.0.0.1:0", "-registry", reg.Host()}, args...), w, &errs)
		}()
		line, err := bufio.NewReader(r).ReadString('\n')
		require.NoError(t, err, "%s", errs.String())
		_, url, ok := strings.Cut(strings.TrimSpace(line), " at ")
		require.True(t, ok, line)
		resp, err := http.Get(url + "/v2/team/app/manifests/v1")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, want, resp.StatusCode, "%s", errs.String())
		cancel()
		assert.Equal(t, 0, <-done, "%s", errs.String())
		return errs.String()
	}
	assert.Contains(t, get(404), "so no image is known to be public")
	get(200, "-from", reg.Host(), "-plain-http")
	assert.NotContains(t, get(200), "warning")
	get(404, "-records", t.TempDir())
	get(200, "-records", t.TempDir(), "-all")
}

func TestWrongUsageIsExplained(t *testing.T) {
	for _, args := range [][]string{{"-x"}, {"-listen", "127.0.0.1:0"}, {"-store", "x", "more"}} {
		var out, errs bytes.Buffer
		assert.Equal(t, 2, run(t.Context(), args, &out, &errs))
		assert.NotEmpty(t, errs.String())
	}
	var out, errs bytes.Buffer
	assert.Equal(t, 0, run(t.Context(), []string{"-help"}, &out, &errs))
	assert.Contains(t, errs.String(), "usage: serve -store DIR")
	errs.Reset()
	assert.Equal(t, 1, run(t.Context(), []string{"-store", filepath.Join(t.TempDir(), "images"), "-listen", "256.0.0.1:1"}, &out, &errs))
	assert.Contains(t, errs.String(), "serve: ")
	errs.Reset()
	assert.Equal(t, 1, run(t.Context(), []string{"-store", filepath.Join(t.TempDir(), "images"), "-registry", "x"}, &out, &errs))
	assert.Contains(t, errs.String(), "DefaultRegistry")
}

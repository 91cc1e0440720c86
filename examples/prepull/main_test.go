package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/pullertest"
)

// noConfig hides the machine's credentials from the test.
func noConfig(t *testing.T) {
	for _, name := range []string{"HOME", "DOCKER_CONFIG", "TMPDIR"} {
		t.Setenv(name, t.TempDir())
	}
}

func TestDemonstrationReportsTwoMissingImages(t *testing.T) {
	noConfig(t)
	var out, log bytes.Buffer
	assert.EqualError(t, demo(t.Context(), 4, &out, &log), "2 of 8 images are missing")
	lines := strings.Split(out.String(), "\n")
	require.Len(t, lines, 13, out.String())
	assert.Equal(t, 8, strings.Count(log.String(), "\n"), log.String())
	lines = lines[1:]
	for i, want := range []string{"service-1:v1", "service-2:v1", "service-3:v1", "service-4:v1", "service-5:v1", "service-6:v1"} {
		assert.Regexp(t, want+` +pulled +\d\.\d +sha256:[0-9a-f]{64}$`, lines[i+1])
	}
	assert.Regexp(t, `/Team/app:v1 +InvalidImageName .*upper case`, lines[7])
	assert.Regexp(t, `/team/absent:v1 +ErrImagePull .*404`, lines[8])
	assert.Contains(t, lines[10], "6 of 8 images are present after ")
}

func TestSecondRunFindsAllImages(t *testing.T) {
	noConfig(t)
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	defer reg.Close()
	_, err = reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{1000}})
	require.NoError(t, err)
	image, dir := reg.Host()+"/team/app:v1", t.TempDir()
	for _, want := range []string{" pulled  0.0", " present  0.0"} { // in either order
		var out bytes.Buffer
		require.NoError(t, prepull(t.Context(), dir, 2, []string{image, image}, &out, io.Discard))
		assert.Equal(t, 2, strings.Count(out.String(), want), out.String())
	}
	assert.Equal(t, 1, reg.Counts().ManifestGet, "the second run asks no registry")
}

func TestInterruptedPullReportsAllImages(t *testing.T) {
	noConfig(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	err := prepull(ctx, t.TempDir(), 1, []string{"registry.invalid/a", "registry.invalid/b"}, &out, io.Discard)
	assert.EqualError(t, err, "2 of 2 images are missing")
	assert.Contains(t, out.String(), "context canceled")
}

package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vbauerster/mpb/v8"

	"github.com/pullkit/pullkit/puller/pullertest"
)

func TestEachBlobHasABar(t *testing.T) {
	for _, columns := range []int{40, 80} {
		t.Setenv("TMPDIR", t.TempDir())
		var out bytes.Buffer
		require.NoError(t, demo(t.Context(), 0, &out, mpb.WithAutoRefresh(), mpb.WithWidth(columns)))
		text := regexp.MustCompile("\x1b\\[[0-9]*[A-Za-z]").ReplaceAllString(out.String(), "")
		full := regexp.MustCompile(`(?m)^[0-9a-f]{12} \[=+\] .*100 %`).FindAllString(text, -1)
		blobs := map[string]bool{}
		for _, line := range full {
			blobs[line[:12]] = true
			assert.LessOrEqual(t, len(line), columns, line)
			assert.Equal(t, columns >= wide, strings.Contains(line, " / "), line)
		}
		assert.Len(t, blobs, 10, "four layers and a config of each image:\n%s", text)
		assert.Len(t, regexp.MustCompile(`(?m)^127\.0\.0\.1:\d+/team/(app:v1|db:v2) sha256:[0-9a-f]{64}$`).FindAllString(text, -1), 2)
	}
}

func TestMissingBlobIsReported(t *testing.T) {
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	defer reg.Close()
	put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{1000, 2000}})
	require.NoError(t, err)
	layer := put.Blobs[len(put.Blobs)-1].Digest
	reg.Remove("team/app@" + layer.String())
	var out bytes.Buffer
	assert.EqualError(t, pull(t.Context(), t.TempDir(), nil, []string{reg.Host() + "/team/app:v1"}, &out), "1 of 1 images are missing")
	assert.Contains(t, out.String(), "404")
}

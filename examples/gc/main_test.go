package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDemonstrationKeepsWhatIsUsed(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out, errs bytes.Buffer
	assert.Zero(t, run(nil, &out, &errs), errs.String())
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 11, out.String())
	for i, want := range []string{
		`What a round`, `^9\d% of the file system is used; a round has to free \d+ bytes`,
		`/team/app-3:v1": number 1: removed when space`, `/team/app-4:v1": number 2`, `/team/app-5:v1": number 3`, `/team/app-1:v1": number 4`,
		`/team/app-2:v1": kept, because it is in use`, `^$`, `The round:`, `^removed ".*/team/app-3:v1" for space: 1\d+ bytes$`, `^images removed: 1, bytes`,
	} {
		assert.Regexp(t, want, lines[i])
	}
}

// pulled returns a layout with two images.
func pulled(t *testing.T) (dir string, names []string) {
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	defer reg.Close()
	dir = t.TempDir()
	store, err := layout.Open(dir, layout.Config{})
	require.NoError(t, err)
	defer store.Close()
	rt, err := transfer.New(transfer.Config{Store: store})
	require.NoError(t, err)
	p, err := puller.New(puller.Config{Runtime: rt})
	require.NoError(t, err)
	for i, name := range []string{"team/one:v1", "team/two:v1"} {
		_, err := reg.PutImage(name, pullertest.ImageSpec{Layers: []int64{1000}, Seed: uint64(i)})
		require.NoError(t, err)
		names = append(names, reg.Host()+"/"+name)
		_, err = p.Pull(t.Context(), puller.Request{Image: names[i]})
		require.NoError(t, err)
	}
	return dir, names
}

func TestUnusedImagesAreRemoved(t *testing.T) {
	dir, names := pulled(t)
	gc := func(args ...string) (code int, text string) {
		var out, errs bytes.Buffer
		code = run(append([]string{"-store", dir}, args...), &out, &errs)
		return code, out.String() + errs.String()
	}
	code, text := gc("-explain", "-high", "100", names[0])
	assert.Zero(t, code, text)
	assert.Contains(t, text, names[0]+`": kept, because it is in use`)
	assert.Contains(t, text, names[1]+`": kept until `)
	code, text = gc("-all", names[0])
	assert.Zero(t, code, text)
	assert.Contains(t, text, "images removed: 0", "it is young")
	code, text = gc("-all", "-min-age", "-1s", names[0])
	assert.Zero(t, code, text)
	assert.Contains(t, text, "removed \""+names[1]+"\" for space")
	code, text = gc("-kubelet", "-all", "-min-age", "-1s", names[0])
	assert.Zero(t, code, text)
	assert.Contains(t, text, "images removed: 0")
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".pullkit", "gc.json"), []byte("{"), 0o644))
	code, text = gc("-all", "-min-age", "-1s")
	assert.Equal(t, 1, code)
	assert.Contains(t, text, "move it away")
}

// An image that is given by its digest stays when its tag has moved to another image.
func TestAnImageInUseStaysWithoutAName(t *testing.T) {
	dir, names := pulled(t)
	store, err := layout.Open(dir, layout.Config{})
	require.NoError(t, err)
	defer store.Close()
	one, two := reference.MustParse(names[0]), reference.MustParse(names[1])
	former, err := store.Lookup(t.Context(), one)
	require.NoError(t, err)
	next, err := store.Lookup(t.Context(), two)
	require.NoError(t, err)
	require.NoError(t, store.Tag(t.Context(), one, next))
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	require.NoError(t, err)
	for _, blob := range blobs {
		info, err := os.Stat(blob)
		require.NoError(t, err)
		require.NoError(t, os.Chtimes(blob, time.Now().Add(-2*time.Hour), info.ModTime())) // not used since then
	}
	var out, errs bytes.Buffer
	assert.Zero(t, run([]string{"-store", dir, "-all", "-min-age", "-1s", one.Name() + "@" + string(former.Digest)}, &out, &errs), errs.String())
	assert.Contains(t, out.String(), "images removed: 1")
	require.NoError(t, store.Tag(t.Context(), one, former), "all its content is there")
}

func TestWrongUsageIsExplained(t *testing.T) {
	for want, args := range map[string][]string{
		"give the layout with -store": {"-high", "90"},
		"upper case":                  {"-store", "x", "docker.io/App"},
		"flag provided but not":       {"-nothing"},
	} {
		var out, errs bytes.Buffer
		assert.Equal(t, 2, run(args, &out, &errs))
		assert.Contains(t, errs.String(), want)
	}
	var out, errs bytes.Buffer
	assert.Zero(t, run([]string{"-h"}, &out, &errs))
	assert.Contains(t, errs.String(), "usage: gc -store DIR")
	absent := filepath.Join(t.TempDir(), "absent")
	assert.Equal(t, 1, run([]string{"-store", absent}, &out, &errs))
	assert.NoDirExists(t, absent)
	errs.Reset()
	assert.Equal(t, 1, run([]string{"-store", t.TempDir(), "-high", "70"}, &out, &errs))
	assert.Contains(t, errs.String(), "must not be higher")
}

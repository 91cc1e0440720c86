package gc_test

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/gc"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const noRoot = "only root can mount; the other tests hold the same with a file system that is made up"

// mountTmpfs mounts a file system in memory of 40 MiB.
func mountTmpfs(t *testing.T) string {
	realtest.NeedRoot(t, noRoot)
	dir := t.TempDir()
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=40m"))
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// mountExt4 mounts a new ext4 file system of 64 MiB in a file.
func mountExt4(t *testing.T) string {
	realtest.NeedRoot(t, noRoot)
	image, dir := filepath.Join(t.TempDir(), "ext4"), t.TempDir()
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, 64<<20))
	out, err := exec.Command(realtest.Need(t, "mkfs.ext4"), "-q", "-F", "-m", "0", image).CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.Command(realtest.Need(t, "mount"), "-o", "loop", image, dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// fill pulls images of 3 MiB until that many percent of the file system are used. Two
// images each share a layer of 2 MiB.
func fill(t *testing.T, s *site, dir string, percent int, now *clock) []puller.Image {
	var images []puller.Image
	for i := 0; ; i++ {
		u, err := gc.FileSystem(dir)(t.Context())
		require.NoError(t, err)
		if u.Percent() >= percent {
			return images
		}
		require.Less(t, i, 60)
		name := s.push(t, fmt.Sprintf("team/app-%d:v1", i), uint64(100+i), 2<<20, 1<<20)
		images = append(images, pull(t, s.puller, name))
		now.pass(time.Minute)
	}
}

// A small file system is filled to the high threshold. After a round the file system
// itself says that only the low threshold is used. The images that were used last or are
// in use are kept.
func TestARealFileSystemIsFreed(t *testing.T) {
	for name, mount := range map[string]func(*testing.T) string{"tmpfs": mountTmpfs, "ext4": mountExt4} {
		t.Run(name, func(t *testing.T) {
			mounted := mount(t)
			dir, now := filepath.Join(mounted, "images"), newClock()
			var c *gc.Collector
			s := newSite(t, dir, puller.Config{Used: func(image puller.Image) { c.Used(image.ID) }})
			var inUse string
			cfg := gc.Config{Images: gc.FromStore(s.store), Now: now.Now, InUse: func(ctx context.Context) iter.Seq2[string, error] { return of(inUse)(ctx) }}
			c = collector(t, cfg)
			images := fill(t, s, mounted, 85, now)
			inUse = images[0].ID
			pull(t, s.puller, images[1].Ref.String()) // used again
			now.pass(3 * time.Minute)

			explanation, err := c.Explain(t.Context())
			require.NoError(t, err)
			report, err := c.Round(t.Context())
			require.NoError(t, err)
			require.NotEmpty(t, report.Removed)
			assert.GreaterOrEqual(t, report.Before.Percent(), 85)
			assert.LessOrEqual(t, report.After.Percent(), 80)
			assert.InDelta(t, report.After.Available-report.Before.Available, report.Freed, 128<<10, "the bytes really became free")
			for i, removed := range report.Removed {
				assert.Equal(t, explanation.Images[i].Image.ID, removed.Image.ID)
				assert.Equal(t, images[2+i].ID, removed.Image.ID, "the image that was not used for the longest time goes first")
			}
			for _, kept := range []puller.Image{images[0], images[1], images[len(images)-1]} {
				_, err := s.puller.Pull(t.Context(), puller.Request{Image: kept.Ref.String(), Policy: "Never"})
				assert.NoError(t, err)
			}
			for d, err := range s.store.Verify(t.Context()) {
				assert.NoError(t, err, d)
			}
			report, err = c.Round(t.Context())
			require.NoError(t, err)
			assert.Empty(t, report.Removed)
			assert.Zero(t, report.ToFree)
		})
	}
}

// If the disk has no free byte, a round still frees space.
func TestAFileSystemWithoutAByteIsFreed(t *testing.T) {
	for name, mount := range map[string]func(*testing.T) string{"tmpfs": mountTmpfs, "ext4": mountExt4} {
		t.Run(name, func(t *testing.T) {
			mounted := mount(t)
			dir, now := filepath.Join(mounted, "images"), newClock()
			s := newSite(t, dir, puller.Config{})
			c := collector(t, gc.Config{Images: gc.FromStore(s.store), Now: now.Now})
			fill(t, s, mounted, 70, now)
			_, err := c.Round(t.Context())
			require.NoError(t, err)
			now.pass(time.Hour)
			f, err := os.Create(filepath.Join(mounted, "ballast"))
			require.NoError(t, err)
			for size := 1 << 20; size > 0; size /= 2 {
				for err = nil; err == nil; {
					_, err = f.Write(make([]byte, size))
				}
				require.ErrorIs(t, err, syscall.ENOSPC)
			}
			require.NoError(t, f.Close())
			// The other file takes 30 %, so not all images must go.
			report, err := c.Round(t.Context())
			require.NoError(t, err)
			assert.Zero(t, report.Before.Available/4096)
			assert.NotEmpty(t, report.Removed)
			assert.LessOrEqual(t, report.After.Percent(), 80)
			for d, err := range s.store.Verify(t.Context()) {
				assert.NoError(t, err, d)
			}
		})
	}
}

// childEnv makes this test program collect the images of a layout, until it is killed.
const childEnv = "PULLKIT_GC_CHILD"

func TestMain(m *testing.M) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := collectForEver(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// collectForEver removes all images except those that are called "kept", and then ends. It
// writes a line before each removal.
func collectForEver(dir string) error {
	store, err := layout.Open(dir, layout.Config{})
	if err != nil {
		return err
	}
	c, err := gc.New(gc.Config{Images: saying{gc.FromStore(store)}, MinAge: -1, Pinned: func(i gc.Image) bool { return strings.Contains(strings.Join(i.Names, " "), "kept") }})
	if err != nil {
		return err
	}
	_, err = c.RemoveUnused(context.Background())
	return err
}

type saying struct{ gc.Images }

func (s saying) Dir() string { return s.Images.(gc.Directory).Dir() }

func (s saying) Remove(ctx context.Context, image gc.Image, keep []digest.Digest) (int64, error) {
	fmt.Println(image.Names[0])
	return s.Images.Remove(ctx, image, keep)
}

// A process is killed in the middle of a round. Every image that still has a name is
// complete, the last uses of the images are kept, and the next round removes the remaining
// images and the content without a name.
func TestKilledRoundsLeaveWholeImages(t *testing.T) {
	dir := t.TempDir()
	s := newSite(t, dir, puller.Config{})
	for i := range 8 {
		s.push(t, fmt.Sprintf("team/app-%d:v1", i), uint64(i/2), 30_000, 200)
	}
	kept := s.push(t, "team/kept:v1", 0, 30_000, 200)
	host := s.registry.Host()
	stateFile := filepath.Join(dir, ".pullkit", "gc.json")
	r := rand.New(rand.NewPCG(1, 2))
	killed := 0
	for range rounds.Of(60) {
		used, err := gc.New(gc.Config{Images: gc.FromStore(s.store)})
		require.NoError(t, err)
		for i := range 8 {
			used.Used(pull(t, s.puller, fmt.Sprintf("%s/team/app-%d:v1", host, i)).ID)
		}
		id := pull(t, s.puller, kept).ID
		used.Used(id)
		require.NoError(t, used.Close())
		before, err := os.ReadFile(stateFile)
		require.NoError(t, err)
		require.Contains(t, string(before), id)

		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n := r.IntN(9); n >= 0 && lines.Scan(); n-- {
		}
		for range r.IntN(30_000) { // a moment, without a clock
			_ = r.Uint64()
		}
		require.NoError(t, cmd.Process.Kill())
		for lines.Scan() {
		}
		if cmd.Wait() != nil {
			killed++
		}
		entries, err := s.store.List(t.Context())
		require.NoError(t, err)
		for _, e := range entries {
			_, err := s.puller.Pull(t.Context(), puller.Request{Image: e.Name, Policy: "Never"})
			require.NoError(t, err, e.Name)
		}
		now, err := os.ReadFile(stateFile)
		require.NoError(t, err)
		require.Contains(t, string(now), id, "the last use of an image that is there")
	}
	assert.Positive(t, killed)
	c := collector(t, gc.Config{Images: gc.FromStore(s.store), MinAge: -1, InUse: of(kept)})
	_, err := c.RemoveUnused(t.Context())
	require.NoError(t, err)
	_, err = s.store.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
	require.NoError(t, err)
	blobs := 0
	for d, err := range s.store.Verify(t.Context()) {
		assert.NoError(t, err, d)
		blobs++
	}
	assert.Equal(t, 5, blobs, "index, manifest, config and two layers")
}

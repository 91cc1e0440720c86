package layout_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var kills = flag.Int("kills", 0, "how many times TestKilledPullsAreContinued kills a process; 0 means 200, or a fifth")

// childEnv is the environment variable that makes this test program do the work of a
// child process. Tests that need another process start the program again with it.
const childEnv = "PULLKIT_LAYOUT_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		if err := child(what, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(what, dir string) error {
	// Helpers need a testing.TB. In a child they get one that panics.
	t := new(panicTB)
	switch what {
	case "pull":
		return childPull(t, dir)
	case "descriptors":
		return childDescriptors(t, dir)
	case "file size":
		return childFileSize(t, dir)
	}
	return errors.New("what?")
}

type panicTB struct{ testing.TB }

func (panicTB) Helper()                           {}
func (panicTB) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (panicTB) FailNow()                          { panic("failed") }

func startChild(t *testing.T, what, dir string) (*exec.Cmd, io.Reader, *strings.Builder) {
	cmd := exec.Command(must(os.Executable()), dir)
	cmd.Env = append(os.Environ(), childEnv+"="+what)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	return cmd, out, &stderr
}

func processImage(t testing.TB) *testImage {
	return newTestImage(t, "registry.example/team/killed:v1", 3, 0, 3000, 700<<10, 2<<20)
}

// childPull pulls, and reports on its standard output what it does: a dot for each
// operation on files, and an F before each chunk is written.
func childPull(t testing.TB, dir string) error {
	real, err := disk.Open(dir)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		os.Stdout.WriteString(s)
	}
	l, err := layout.OpenDisk(dir, disktest.Before(real, func(op, name string) error {
		if op == "write" && strings.HasSuffix(name, partSuffix) {
			say("F")
		} else {
			say(".")
		}
		return nil
	}),

		layout.Config{})
	if err != nil {
		return err
	}
	defer l.Close()
	return (&testPuller{l: l, chunk: killChunk}).pull(context.Background(), processImage(t))
}

const killChunk = 16 << 10

// TestKilledPullsAreContinued kills a process that pulls, at random moments. No wrong blob is visible, the
// next pull succeeds, and each kill makes it fetch at most 1 MiB again.
func TestKilledPullsAreContinued(t *testing.T) {
	img := processImage(t)
	size := int64(0)
	for _, desc := range img.all {
		size += desc.Size
	}
	n := *kills
	if n == 0 {
		n = someRounds(200, 20)
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	worst := int64(0)
	for killed := 0; killed < n; {
		dir := t.TempDir()
		fetched, here := int64(0), 0
		for range 1 + r.IntN(3) {
			f, died := killOnce(t, dir, r.IntN(500))
			fetched += f
			if died {
				here++
			}
			requireSound(t, must(disk.Open(dir)), fmt.Sprintf("seed %d", seed))
		}
		killed += max(here, 1)
		l := openTest(t, dir)
		p := &testPuller{l: l, chunk: killChunk}
		require.NoError(t, p.pull(t.Context(), img), "seed %d", seed)
		requirePulled(t, l, img, fmt.Sprintf("seed %d", seed))
		again := fetched + p.fetched.Load() - size
		require.LessOrEqual(t, again, int64(here)<<20+killChunk*int64(len(img.all)), "seed %d: %d kills", seed, here)
		if here > 0 {
			worst = max(worst, again/int64(here))
		}
		require.NoError(t, os.RemoveAll(dir))
	}
	t.Logf("%d kills, at worst %d bytes fetched again a kill", n, worst)
}

// killOnce starts a pull and kills it after that many operations, or lets it end if it
// has fewer. It returns how many bytes the pull had fetched.
func killOnce(t *testing.T, dir string, after int) (fetched int64, died bool) {
	cmd, out, stderr := startChild(t, "pull", dir)
	in := bufio.NewReaderSize(out, 16)
	count := func(b byte, err error) bool {
		if err == nil && b == 'F' {
			fetched += killChunk
		}
		return err == nil
	}
	for range after {
		if !count(in.ReadByte()) {
			break
		}
	}
	cmd.Process.Kill()
	for count(in.ReadByte()) {
	}
	err := cmd.Wait()
	died = cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled()
	require.True(t, died || err == nil, "%v: %s", err, stderr)
	return fetched, died
}

// Several processes pull one image into one layout at the same time. Every blob is
// fetched once, and all pulls succeed.
func TestProcessesShareALayout(t *testing.T) {
	img, dir := processImage(t), t.TempDir()
	want := 0
	for _, desc := range img.all {
		want += int(desc.Size+killChunk-1) / killChunk
	}
	var wg sync.WaitGroup
	outs := make([]string, 4)
	for i := range outs {
		cmd, out, stderr := startChild(t, "pull", dir)
		wg.Go(func() {
			b, _ := io.ReadAll(out)
			outs[i] = string(b)
			assert.NoError(t, cmd.Wait(), stderr)
		})
	}
	wg.Wait()
	assert.Equal(t, want, strings.Count(strings.Join(outs, ""), "F"), "chunks fetched")
	requirePulled(t, openTest(t, dir), img, "after all")
}

// childDescriptors runs with a limit of 64 file descriptors and needs more.
func childDescriptors(t testing.TB, dir string) error {
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64}); err != nil {
		return err
	}
	l, err := layout.Open(dir, layout.Config{})
	if err != nil {
		return err
	}
	var open []content.Ingest
	for i := range 100 {
		_, desc := blobOf(1000+i, 10)
		in, err := l.Ingest(context.Background(), desc)
		if err == nil {
			open = append(open, in)
			continue
		}
		if !errors.Is(err, syscall.EMFILE) || content.ReasonOf(err) != content.ErrStore || errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("Ingest: %w", err)
		}
	}
	if len(open) < 40 || len(open) > 64 {
		return fmt.Errorf("%d ingests at a time", len(open))
	}
	img := processImage(t)
	if err := (&testPuller{l: l}).pull(context.Background(), img); !errors.Is(err, syscall.EMFILE) {
		return fmt.Errorf("pull without descriptors: %w", err)
	}
	for _, in := range open {
		if err := in.Close(); err != nil {
			return err
		}
	}
	if err := (&testPuller{l: l}).pull(context.Background(), img); err != nil {
		return err
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	if len(fds) > 26 {
		return fmt.Errorf("%d descriptors are open at the end", len(fds))
	}
	return l.Close()
}

func TestSixtyFourDescriptorsAreEnough(t *testing.T) {
	dir := t.TempDir()
	cmd, out, stderr := startChild(t, "descriptors", dir)
	io.Copy(io.Discard, out)
	require.NoError(t, cmd.Wait(), stderr)
	requirePulled(t, openTest(t, dir), processImage(t), "after 64 descriptors")
}

// childFileSize runs with a limit of 1 MiB for the size of a file. Writes beyond it fail
// in the middle, as on a full disk.
func childFileSize(t testing.TB, dir string) error {
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20}); err != nil {
		return err
	}
	l, err := layout.Open(dir, layout.Config{})
	if err != nil {
		return err
	}
	err = (&testPuller{l: l, chunk: 100_000}).pull(context.Background(), processImage(t))
	if !errors.Is(err, syscall.EFBIG) || content.ReasonOf(err) != content.ErrStore {
		return fmt.Errorf("pull: %v", err)
	}
	fmt.Println(err)
	return nil
}

func TestAPullContinuesAfterAWriteFails(t *testing.T) {
	dir := t.TempDir()
	cmd, out, stderr := startChild(t, "file size", dir)
	said, _ := io.ReadAll(out)
	require.NoError(t, cmd.Wait(), stderr)
	assert.Contains(t, string(said), "file too large")
	img, l := processImage(t), openTest(t, dir)
	requireSound(t, must(disk.Open(dir)), "after a failed write")
	p := &testPuller{l: l}
	require.NoError(t, p.pull(t.Context(), img))
	requirePulled(t, l, img, "after a failed write")
	assert.Less(t, p.fetched.Load(), int64(3<<20/2), "what was written is kept")
}

// mountSmall mounts a file system of that size, which needs root, and returns its path.
func mountSmall(t *testing.T, size string) string {
	realtest.NeedRoot(t, "only root can mount; TestAPullSurvivesAFaultOfEveryOperation and TestAPullContinuesAfterAWriteFails hold the same without a mount")
	dir := t.TempDir()
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size))
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func TestAPullContinuesAfterSpaceIsFreed(t *testing.T) {
	dir := filepath.Join(mountSmall(t, "2m"), "images")
	l := openTest(t, dir)
	small, img := newTestImage(t, "registry.example/small:v1", 4, 1000), processImage(t)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), small))

	// No byte is written of a blob that cannot fit.
	free, err := l.Free(t.Context())
	require.NoError(t, err)
	assert.Less(t, free, int64(2<<20))
	data, desc := blobOf(5, 3<<20)
	_, err = l.Ingest(t.Context(), desc)
	require.ErrorIs(t, err, syscall.ENOSPC)
	assert.Equal(t, content.ErrStore, content.ReasonOf(err))
	assert.Contains(t, err.Error(), "no space left on device")
	assert.Contains(t, err.Error(), dir)
	assert.NotErrorIs(t, err, fs.ErrExist)
	_, err = os.Stat(filepath.Join(dir, filepath.FromSlash(partName(desc.Digest))))
	assert.ErrorIs(t, err, fs.ErrNotExist)

	// If each blob fits and all together do not, a write fails in the middle.
	err = (&testPuller{l: l}).pull(t.Context(), img)
	require.ErrorIs(t, err, syscall.ENOSPC)
	assert.Equal(t, content.ErrStore, content.ReasonOf(err))
	requirePulled(t, l, small, "with the mem full")
	_ = data

	// After space is freed, the pull continues.
	_, err = l.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
	require.NoError(t, err)
	require.NoError(t, syscall.Mount("tmpfs", filepath.Dir(dir), "tmpfs", syscall.MS_REMOUNT, "size=20m"))
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	requirePulled(t, l, img, "with room")
}

// A read-only layout can be read. An operation that writes returns an error.
func TestAReadOnlyLayoutIsRead(t *testing.T) {
	one, two := newTestImage(t, "registry.example/one:v1", 4, 1000), processImage(t)
	dir := filepath.Join(t.TempDir(), "images")
	first := openTest(t, dir)
	require.NoError(t, (&testPuller{l: first}).pull(t.Context(), one))
	require.NoError(t, first.Close())
	dir = readOnly(t, dir)
	l := openTest(t, dir)
	requirePulled(t, l, one, "read-only")
	p := &testPuller{l: l}
	err := p.pull(t.Context(), two)
	require.Error(t, err)
	assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
	assert.True(t, errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES), "%v", err)
	assert.Zero(t, p.fetched.Load(), "no byte is fetched first")
	assert.Contains(t, err.Error(), strconv.Quote(dir))
	err = l.Tag(t.Context(), two.ref, one.index)
	assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
	_, err = l.Remove(t.Context(), one.ref)
	assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
	requirePulled(t, l, one, "still")
	_, err = layout.Open(filepath.Join(dir, "new"), layout.Config{})
	assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
}

// readOnly returns a path under which dir cannot be written to. Root may write in spite
// of file modes, so for root the path is a read-only mount.
func readOnly(t *testing.T, dir string) string {
	if os.Getuid() == 0 {
		view := t.TempDir()
		require.NoError(t, syscall.Mount(dir, view, "", syscall.MS_BIND, ""))
		t.Cleanup(func() { syscall.Unmount(view, syscall.MNT_DETACH) })
		require.NoError(t, syscall.Mount("", view, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		return view
	}
	chmod := func(mode fs.FileMode) {
		for _, name := range []string{"", blobsDir, blobsDir + "/sha256", stateDir, ingestDir} {
			require.NoError(t, os.Chmod(filepath.Join(dir, name), mode))
		}
	}
	chmod(0o555)
	t.Cleanup(func() { chmod(0o755) })
	return dir
}

// An Ingest that fails for lack of space leaves no file descriptor open.
func TestAnIngestWithoutSpaceLeavesNoFileOpen(t *testing.T) {
	dir := t.TempDir()
	full := &fullFS{FS: must(disk.Open(dir))}
	l := must(layout.OpenDisk(dir, full, layout.Config{}))
	defer l.Close()
	data, desc := blobOf(1, 3<<20)
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	_, err = in.WriteAt(data[:100], 5000) // a list
	require.NoError(t, err)
	require.NoError(t, in.Close())
	full.full = true
	before := len(must(os.ReadDir("/proc/self/fd")))
	for range 3 {
		_, err = l.Ingest(t.Context(), desc)
		require.ErrorIs(t, err, syscall.ENOSPC)
	}
	assert.Len(t, must(os.ReadDir("/proc/self/fd")), before)
	kept, err := l.Kept(t.Context(), desc)
	require.NoError(t, err)
	assert.Equal(t, int64(100), kept)
}

// A fullFS has no free space once it is full.
type fullFS struct {
	disk.FS
	full bool
}

func (f *fullFS) Free() (int64, error) {
	if f.full {
		return 0, nil
	}
	return f.FS.Free()
}

// A layout stays open while its directories and lock files are removed repeatedly. It
// leaves no file descriptor open.
func TestRemovedDirectoriesAreClosed(t *testing.T) {
	l := openTest(t, t.TempDir())
	count := func() int {
		runtime.GC()
		runtime.GC()
		return len(must(os.ReadDir("/proc/self/fd")))
	}
	before := count()
	for i := range 100 {
		for _, name := range []string{stateDir, blobsDir} {
			require.NoError(t, os.RemoveAll(filepath.Join(l.Dir(), name)))
		}
		data, desc := blobOf(i, 100)
		store(t, l, desc, data)
	}
	for range 100 {
		if count() <= before+8 {
			return
		}
		runtime.Gosched() // other goroutines close them
	}
	t.Errorf("%d descriptors, %d before", count(), before)
}

package unpack

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// countOps returns how many operations it takes to make the directory.
func countOps(t *testing.T, store content.Store, desc ocispec.Descriptor, cfg Config) int {
	n := 0
	u := &unpacker{store: store, cfg: cfg, dir: filepath.Join(t.TempDir(), "dir"), clone: clone, noSync: true, before: func(string, string) error { n++; return nil }}
	_, err := u.run(t.Context(), desc)
	require.NoError(t, err)
	return n
}

// Each operation fails in turn. The error is that of the system, and the directory does not
// exist. Nothing is left if the system allows the removal. The next call makes the directory.
func TestEachOperationCanFail(t *testing.T) {
	for name, store := range stores(t) {
		for _, link := range []bool{false, true} {
			if link && name != "layout" {
				continue
			}
			for _, forever := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, link %v, for ever %v", name, link, forever), func(t *testing.T) {
					desc := putArtifact(t, store, mixed(t)...)
					cfg := Config{Link: link}
					total := countOps(t, store, desc, cfg)
					require.Greater(t, total, 20)
					for k := 0; k < total; k += total / rounds.Of(total) {
						parent := t.TempDir()
						dir := filepath.Join(parent, "dir")
						n, failed := 0, ""
						u := &unpacker{store: store, cfg: cfg, dir: dir, clone: clone, noSync: true, before: func(op, name string) error {
							if n++; n-1 == k || forever && n-1 > k {
								if failed == "" {
									failed = op + " " + name
								}
								return syscall.EIO
							}
							return nil
						}}
						_, err := u.run(t.Context(), desc)
						_, lerr := os.Lstat(dir)
						if err == nil {
							// Only the removal of the work directory has failed.
							assert.NoError(t, lerr, failed)
							assert.Contains(t, failed, "remove ")
						} else {
							var e *Error
							require.ErrorAs(t, err, &e, failed)
							assert.ErrorIs(t, err, syscall.EIO, failed)
						}
						if lerr == nil { // the directory was whole before the operation that failed
							assert.Equal(t, mixedTree, readTree(t, dir), failed)
						} else if !forever {
							requireOnly(t, parent)
						}
						_, err = Files(t.Context(), store, desc, dir, cfg)
						require.NoError(t, err, failed)
						assert.Equal(t, mixedTree, readTree(t, dir), failed)
						requireOnly(t, parent, "dir")
					}
				})
			}
		}
	}
}

// The mark is written and everything is synced before the directory gets its name. The name is
// synced after that.
func TestTheDirectoryGetsItsNameAfterASync(t *testing.T) {
	store := new(pullertest.MemStore)
	parent := t.TempDir()
	var ops []string
	u := &unpacker{store: store, dir: filepath.Join(parent, "dir"), clone: clone, before: func(op, name string) error {
		ops = append(ops, op+" "+name)
		return nil
	}}
	_, err := u.run(t.Context(), putArtifact(t, store, mixed(t)...))
	require.NoError(t, err)
	place := filepath.Join(parent, ".dir"+workSuffix)
	want := []string{"write " + markName, "sync " + filesName, "rename dir", "sync " + parent + string(filepath.Separator), "remove " + place}
	assert.Equal(t, want, ops[len(ops)-len(want):])
	assert.Equal(t, "mkdir "+place, ops[0])
}

// The context ends before each operation in turn, and the files that were written stay. The next
// call makes the whole directory, of the same artifact or of another one.
func TestTheContextCanEndBeforeEachOperation(t *testing.T) {
	store := new(pullertest.MemStore)
	desc, other := putArtifact(t, store, mixed(t)...), putArtifact(t, store, titled("docs", "other"), titled("code/main.py", "x"))
	total := countOps(t, store, desc, Config{})
	for k := 0; k < total; k += total / rounds.Of(total) {
		for i, next := range []ocispec.Descriptor{desc, other} {
			parent := t.TempDir()
			dir := filepath.Join(parent, "dir")
			ctx, cancel := context.WithCancel(t.Context())
			n := 0
			u := &unpacker{store: store, dir: dir, clone: clone, noSync: true, before: func(op, name string) error {
				if n++; n-1 == k {
					cancel()
					return ctx.Err()
				}
				return nil
			}}
			_, err := u.run(ctx, desc)
			if err != nil {
				assert.Equal(t, context.Canceled, err)
			}
			whole := false
			if _, err := os.Lstat(dir); err == nil {
				whole = true
				assert.Equal(t, mixedTree, readTree(t, dir))
			}
			_, err = Files(t.Context(), store, next, dir, Config{})
			switch {
			case i == 0:
				require.NoError(t, err)
				assert.Equal(t, mixedTree, readTree(t, dir))
				requireOnly(t, parent, "dir")
			case whole:
				assert.ErrorIs(t, err, ErrTaken)
			default:
				require.NoError(t, err)
				assert.Equal(t, map[string]string{"docs": "other", "code": "/", "code/main.py": "x"}, readTree(t, dir))
				requireOnly(t, parent, "dir")
			}
		}
	}
}

// A file that an earlier call has left gets the bit set-user-ID before the next call. The next
// call makes the file again without this bit.
func TestAFileThatGetsSetUserIDBetweenCallsIsMadeAgain(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putArtifact(t, store, titled("a", "a"), plain(t, tarEntry{tar.Header{Typeflag: tar.TypeReg, Name: "b", Mode: 0o6755, Size: 1}, "b"}), titled("c", "c"))
	dir := filepath.Join(t.TempDir(), "dir")
	ctx, cancel := context.WithCancel(t.Context())
	u := &unpacker{store: store, dir: dir, clone: clone, noSync: true, before: func(op, name string) error {
		if op == "create" && name == "c" {
			cancel()
		}
		return ctx.Err()
	}}
	_, err := u.run(ctx, desc)
	require.Equal(t, context.Canceled, err)
	for _, name := range []string{"a", "b"} {
		left := filepath.Join(filepath.Dir(dir), ".dir"+workSuffix, filesName, name)
		require.NoError(t, os.Chmod(left, 0o755|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky))
	}
	_, err = Files(t.Context(), store, desc, dir, Config{})
	require.NoError(t, err)
	for name, mode := range map[string]fs.FileMode{"a": 0o644, "b": 0o755} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, fs.FileMode(0), info.Mode()&^mode, name)
	}
}

// A call goes on where an earlier call was stopped. Right bytes are not written again. Wrong
// bytes, such as a loss of power leaves, are written again.
func TestACallGoesOnWithTheFilesOfAStoppedCall(t *testing.T) {
	store := new(pullertest.MemStore)
	big := bytes.Repeat([]byte("0123456789abcdef"), 5*copyBuffer/16)
	for name, l := range map[string]layer{"file": titled("big", string(big)), "tar": plain(t, file("big", string(big)))} {
		for damage, change := range map[string]func(have []byte) []byte{
			"none":    func(have []byte) []byte { return have },
			"zeros":   func(have []byte) []byte { clear(have[copyBuffer+5:]); return have },
			"longer":  func(have []byte) []byte { return append(have, make([]byte, 9*copyBuffer)...) },
			"shorter": func(have []byte) []byte { return have[:copyBuffer+7] },
		} {
			t.Run(name+", "+damage, func(t *testing.T) {
				desc := putArtifact(t, store, l)
				parent := t.TempDir()
				dir := filepath.Join(parent, "dir")
				writes := 0
				ctx, cancel := context.WithCancel(t.Context())
				u := &unpacker{store: store, dir: dir, clone: clone, noSync: true, before: func(op, name string) error {
					if op == "write" && name == "big" {
						if writes++; writes == 4 {
							cancel()
							return ctx.Err()
						}
					}
					return nil
				}}
				_, err := u.run(ctx, desc)
				require.Equal(t, context.Canceled, err)
				part := filepath.Join(parent, ".dir"+workSuffix, filesName, "big")
				have, err := os.ReadFile(part)
				require.NoError(t, err)
				require.Len(t, have, 3*copyBuffer)
				require.NoError(t, os.WriteFile(part, change(have), 0o644))

				again := 0
				u = &unpacker{store: store, dir: dir, clone: clone, noSync: true, before: func(op, name string) error {
					if op == "write" && name == "big" {
						again++
					}
					return nil
				}}
				_, err = u.run(t.Context(), desc)
				require.NoError(t, err)
				assert.True(t, bytes.Equal(big, must(os.ReadFile(filepath.Join(dir, "big")))))
				want := map[string]int{"none": 2, "zeros": 4, "longer": 2, "shorter": 4}[damage]
				assert.Equal(t, want, again)
			})
		}
	}
}

// A call whose Config.Name returns other names does not use the files of a call that was stopped.
func TestOtherNamesDoNotUseTheFilesOfAStoppedCall(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putArtifact(t, store, layer{"application/wasm", []byte("a"), nil}, titled("b", "b"))
	parent := t.TempDir()
	dir := filepath.Join(parent, "dir")
	ctx, cancel := context.WithCancel(t.Context())
	named := func(name string) Config {
		return Config{Name: func(ocispec.Descriptor) string { return name }}
	}
	u := &unpacker{store: store, cfg: named("first"), dir: dir, clone: clone, noSync: true, before: func(op, name string) error {
		if name == "b" {
			cancel()
		}
		return ctx.Err()
	}}
	_, err := u.run(ctx, desc)
	require.Equal(t, context.Canceled, err)
	assert.FileExists(t, filepath.Join(parent, ".dir"+workSuffix, filesName, "first"))
	_, err = Files(t.Context(), store, desc, dir, named("second"))
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"second": "a", "b": "b"}, readTree(t, dir))
}

// A tar that is skipped because of SubPath is not read further after the end of the context.
func TestASkippedTarIsNotReadAfterTheEndOfTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	store := &endingStore{MemStore: new(pullertest.MemStore), end: cancel}
	data := tarOf(t, file("skipped", string(make([]byte, 8<<20))), file("sub/a", "a"))
	desc := putArtifact(t, store, layer{modelTar, data, nil})
	_, err := Files(ctx, store, desc, filepath.Join(t.TempDir(), "dir"), Config{SubPath: "sub"})
	assert.Equal(t, context.Canceled, err)
	assert.Less(t, store.read, 1<<20)
}

// An endingStore ends a context at the first read of a large blob, and counts its bytes.
type endingStore struct {
	*pullertest.MemStore
	end  func()
	read int
}

func (s *endingStore) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := s.MemStore.Open(ctx, desc)
	if err != nil || desc.Size < 1<<20 {
		return r, err
	}
	return &endingReader{r, s}, nil
}

type endingReader struct {
	io.ReadCloser
	s *endingStore
}

func (r *endingReader) Read(p []byte) (int, error) {
	r.s.end()
	n, err := r.ReadCloser.Read(p)
	r.s.read += n
	return n, err
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// childEnv is the environment variable that makes this test program do the work of a child
// process.
const childEnv = "PULLKIT_UNPACK_CHILD"

func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Getenv(childEnv) != "" {
		if err := child(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child unpacks an artifact of a layout. It prints a line before each operation.
func child(store, dir, digest, size string) error {
	l, err := layout.Open(store, layout.Config{})
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return err
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: parse(digest), Size: n}
	u := &unpacker{store: l, dir: dir, clone: clone, noSync: true, before: func(op, name string) error {
		_, err := fmt.Println(op, name)
		return err
	}}
	_, err = u.run(context.Background(), desc)
	return err
}

// TestKill kills a process before each of its operations, and other processes at random moments.
// The directory is whole or does not exist. The next call makes it and leaves nothing else.
func TestKill(t *testing.T) {
	store := openLayout(t)
	layers := append(mixed(t), titled("big", string(bytes.Repeat([]byte("big"), 1<<20))))
	desc := putArtifact(t, store, layers...)
	want := map[string]string{"big": string(layers[len(layers)-1].data)}
	for k, v := range mixedTree {
		want[k] = v
	}
	total := countOps(t, store, desc, Config{})
	for k := range total + rounds.Of(50) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "dir")
		cmd := startable(store, dir, desc)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewReader(out)
		after := k
		if k >= total {
			after = rand.IntN(total)
		}
		for range after + 1 {
			if _, err := lines.ReadString('\n'); err != nil {
				require.Equal(t, io.EOF, err)
				break
			}
		}
		require.NoError(t, ignoreDone(cmd.Process.Kill()))
		cmd.Wait() // its error only says that the process was killed
		if _, err := os.Lstat(dir); err == nil {
			require.Equal(t, want, readTree(t, dir))
		}
		files, err := Files(t.Context(), store, desc, dir, Config{})
		require.NoError(t, err)
		require.Len(t, files, 11)
		require.Equal(t, want, readTree(t, dir))
		requireOnly(t, parent, "dir")
	}
}

// startable returns the command that unpacks an artifact in another process.
func startable(store *layout.Layout, dir string, desc ocispec.Descriptor) *exec.Cmd {
	cmd := exec.Command(must(os.Executable()), store.Dir(), dir, string(desc.Digest), itoa(desc.Size))
	cmd.Env = append(os.Environ(), childEnv+"=1")
	return cmd
}

// Several processes make the same directory at the same time. All succeed, and the directory is
// made once.
func TestConcurrentProcessesMakeOneDirectoryOnce(t *testing.T) {
	store := openLayout(t)
	desc := putArtifact(t, store, mixed(t)...)
	for range rounds.Of(10) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "dir")
		var all []*exec.Cmd
		var outs []*bytes.Buffer
		for range 4 {
			cmd, out := startable(store, dir, desc), new(bytes.Buffer)
			cmd.Stdout, cmd.Stderr = out, out
			require.NoError(t, cmd.Start())
			all, outs = append(all, cmd), append(outs, out)
		}
		renames := 0
		for i, cmd := range all {
			require.NoError(t, cmd.Wait(), "%s", outs[i])
			renames += bytes.Count(outs[i].Bytes(), []byte("rename "))
		}
		assert.Equal(t, 1, renames)
		assert.Equal(t, mixedTree, readTree(t, dir))
		requireOnly(t, parent, "dir")
	}
}

func ignoreDone(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

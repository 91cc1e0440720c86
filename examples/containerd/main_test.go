package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/containerd"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestMain runs the program itself in a child process that a test has started.
func TestMain(m *testing.M) {
	if os.Getenv("PULLKIT_TEST_CHILD") == "1" {
		main()
	}
	os.Exit(m.Run())
}

// child returns a command that runs the program, without the machine's configuration.
func child(t *testing.T, args ...string) *exec.Cmd {
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, args...)
	dir := t.TempDir()
	cmd.Env = append(os.Environ(), "PULLKIT_TEST_CHILD=1", "HOME="+dir, "DOCKER_CONFIG="+dir, "REGISTRY_AUTH_FILE=", "XDG_RUNTIME_DIR="+dir, "XDG_CONFIG_HOME="+dir)
	return cmd
}

// call runs the program and returns what it prints.
func call(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	cmd := child(t, args...)
	var all bytes.Buffer
	cmd.Stdout, cmd.Stderr = &all, &all
	err := cmd.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		require.NoError(t, err)
	}
	assert.NotContains(t, all.String(), "goroutine ", "a stack was printed")
	return cmd.ProcessState.ExitCode(), all.String()
}

// onEach runs a test with each containerd.
func onEach(t *testing.T, test func(t *testing.T, d *realtest.Containerd)) {
	for _, program := range []string{realtest.ContainerdProgram, realtest.Containerd2Program} {
		t.Run(program, func(t *testing.T) { test(t, realtest.StartContainerd(t, program, nil)) })
	}
}

// A site is a registry behind a server that can stop within blobs.
type site struct {
	*pullertest.Registry
	host string
	// stop, if it is set, is called when stopAt bytes of a blob were sent. If it returns
	// false, the rest of the blob is not sent.
	stopAt int64
	stop   atomic.Pointer[func() (goOn bool)]
}

func startSite(t *testing.T, conf pullertest.Config) *site {
	reg, err := pullertest.Start(conf)
	require.NoError(t, err)
	t.Cleanup(func() { reg.Close() })
	s := &site{Registry: reg}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.host = strings.TrimPrefix(server.URL, "http://")
	return s
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if stop := s.stop.Load(); stop != nil && strings.Contains(r.URL.Path, "/blobs/") {
		w = &stopping{ResponseWriter: w, left: s.stopAt, stop: *stop, ended: r.Context()}
	}
	s.Registry.ServeHTTP(w, r)
}

type stopping struct {
	http.ResponseWriter
	left  int64
	stop  func() bool
	ended context.Context // of the request
}

func (s *stopping) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if s.left <= 0 {
			s.ResponseWriter.(http.Flusher).Flush()
			if !s.stop() {
				<-s.ended.Done()
				return n, s.ended.Err()
			}
			s.left = math.MaxInt64
		}
		k, err := s.ResponseWriter.Write(p[:min(int64(len(p)), s.left)])
		n, p, s.left = n+k, p[k:], s.left-int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// put makes an image for another platform and for this one, and returns its name.
func (s *site) put(t *testing.T, name string, layers ...int64) string {
	_, err := s.PutImage(name, pullertest.ImageSpec{Layers: layers, Platforms: []ocispec.Platform{{OS: "linux", Architecture: "s390x"}, containerd.Platform()}})
	require.NoError(t, err)
	return s.host + "/" + name
}

// secret writes a manifest with a Secret for each password.
func (s *site) secret(t *testing.T, passwords ...string) string {
	var all strings.Builder
	for i, password := range passwords {
		doc, err := credentials.DockerConfig{Server: s.host, Username: "robot", Password: credentials.Conceal(password)}.JSON()
		require.NoError(t, err)
		fmt.Fprintf(&all, "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s%d, namespace: team}\ntype: %s\nstringData:\n  %s: %q\n",
			i, credentials.TypeDockerConfigJSON, credentials.KeyDockerConfigJSON, doc)
	}
	file := filepath.Join(t.TempDir(), "secret.yaml")
	require.NoError(t, os.WriteFile(file, []byte(all.String()), 0o600))
	return file
}

// A node asks containerd as the kubelet does.
type node struct {
	t *testing.T
	*realtest.Containerd
	images runtimeapi.ImageServiceClient
}

func newNode(t *testing.T, d *realtest.Containerd) node {
	conn, err := grpc.NewClient("unix://"+d.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return node{t, d, runtimeapi.NewImageServiceClient(conn)}
}

// status asks the CRI plugin for an image, which learns of it soon after the pull.
func (n node) status(image string) *runtimeapi.Image {
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	for {
		resp, err := n.images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: image}}, grpc.WaitForReady(true))
		require.NoError(n.t, err)
		if resp.Image != nil {
			return resp.Image
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			n.t.Fatalf("CRI does not find image %s", image)
		}
	}
}

// collect deletes all leases and waits for the garbage collection.
func (n node) collect() {
	for _, id := range strings.Fields(n.Ctr(n.t, "k8s.io", "leases", "ls", "-q")) {
		n.Ctr(n.t, "k8s.io", "leases", "rm", "--sync", id)
	}
	n.Ctr(n.t, "k8s.io", "leases", "create", "--id", "test")
	n.Ctr(n.t, "k8s.io", "leases", "rm", "--sync", "test")
}

// usable checks that an image can be used by all clients of containerd.
func (n node) usable(image string) {
	t := n.t
	n.collect()
	check := n.Ctr(t, "k8s.io", "images", "check", "name=="+image)
	assert.Contains(t, check, "complete (3/3)")
	status := n.status(image)
	assert.Contains(t, status.RepoTags, image)
	for _, byDigest := range status.RepoDigests { // one for each repository that has the image
		assert.Equal(t, status.Id, n.status(byDigest).Id)
	}
	assert.Contains(t, strings.Join(status.RepoDigests, " "), strings.TrimSuffix(image, ":v1")+"@sha256:")
	assert.Equal(t, status.Id, n.status(status.Id).Id, "by its ID")

	dir := t.TempDir()
	n.Ctr(t, "k8s.io", "images", "mount", "--snapshotter", "native", image, dir)
	files, err := os.ReadDir(dir)
	n.Ctr(t, "k8s.io", "images", "unmount", "--rm", "--snapshotter", "native", dir)
	require.NoError(t, err)
	assert.Len(t, files, 2, "one file of each layer")
}

// The kubelet, crictl and ctr find the image and can use it, also after the lease was deleted
// and garbage was collected.
func TestAPublicImageIsPulledIntoContainerd(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		s, n := startSite(t, pullertest.Config{}), newNode(t, d)
		image := s.put(t, "team/app:v1", 3<<20, 200<<10)
		code, out := call(t, "-address", d.Socket, image)
		require.Equal(t, 0, code, out)
		assert.NotContains(t, n.Ctr(t, "k8s.io", "images", "ls"), "io.cri-containerd.pinned=pinned")
		code, out = call(t, "-address", d.Socket, "-pin", image) // the image is present
		require.Equal(t, 0, code, out)
		assert.Contains(t, out, "every Pod of this node may use them without a secret")
		n.usable(image)
		pinned := strings.HasSuffix(t.Name(), realtest.Containerd2Program) // 1.6 does not read the label
		assert.Equal(t, pinned, n.status(image).Pinned)
		assert.Contains(t, n.Ctr(t, "k8s.io", "images", "ls"), "io.cri-containerd.pinned=pinned")

		s.ResetCounts()
		code, out = call(t, "-address", d.Socket, image)
		require.Equal(t, 0, code, out)
		assert.Contains(t, out, "already present on machine")
		assert.Zero(t, s.Counts().Total())

		// Another image with the same layers.
		other := s.put(t, "team/copy:v1", 3<<20, 200<<10)
		code, out = call(t, "-address", "unix://"+d.Socket, "-json", other)
		require.Equal(t, 0, code, out)
		assert.Zero(t, s.Counts().BlobGet, "containerd has all its blobs")
		var last struct{ Image, Digest string }
		lines := strings.Split(strings.TrimSpace(out), "\n")
		require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &last))
		assert.Equal(t, other, last.Image)

		// Outside the kubelet's namespace.
		code, out = call(t, "-address", d.Socket, "-namespace", "build", image)
		require.Equal(t, 0, code, out)
		assert.NotContains(t, out, "every Pod")
		assert.Contains(t, n.Ctr(t, "build", "images", "check"), "complete (3/3)")
	})
}

// A stale secret is tried before the good one. An image that only a secret opens is refused,
// unless a flag says that every Pod may use it.
func TestAPrivateImageNeedsAFlag(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		for _, auth := range []pullertest.AuthMode{pullertest.AuthBasic, pullertest.AuthBearer} {
			s, n := startSite(t, pullertest.Config{Auth: auth, Users: []pullertest.User{{Name: "robot", Password: "hunter2"}}}), newNode(t, d)
			s.host = s.Registry.Host() // its token server is at its own origin
			image := s.put(t, "team/app:v1", 1000, 2000)
			flags := []string{"-address", d.Socket, "-secret", s.secret(t, "stale-one", "hunter2"), image}
			code, out := call(t, flags...)
			assert.Equal(t, 1, code, out)
			assert.Contains(t, out, "only a credential opens this image, and every Pod of the node could use it")
			assert.Contains(t, out, "give -private")
			assert.Zero(t, s.Counts().BlobGet)
			assert.NotContains(t, n.Ctr(t, "k8s.io", "images", "ls", "-q"), s.host)

			// An empty namespace means that of the kubelet.
			code, out = call(t, append([]string{"-namespace", ""}, flags...)...)
			assert.Equal(t, 1, code, out)
			assert.Contains(t, out, "every Pod of this node may use them")
			assert.Contains(t, out, "give -private")
			assert.NotContains(t, n.Ctr(t, "k8s.io", "images", "ls", "-q"), s.host)

			code, out = call(t, append([]string{"-private"}, flags...)...)
			require.Equal(t, 0, code, out)
			assert.Contains(t, out, `secret "team/s0"`)
			assert.Contains(t, out, "401")
			assert.Contains(t, out, `secret "team/s1"`)
			assert.NotContains(t, out, "hunter2")
			assert.NotContains(t, out, "stale-one")
			n.usable(image)

			code, out = call(t, "-address", d.Socket, "-explain", "-policy", "Always", "-secret", s.secret(t, "hunter2"), image)
			require.Equal(t, 0, code, out)
			assert.Contains(t, out, `secret "team/s0"`)

			// A present image needs no flag, because the program does not put it there.
			code, out = call(t, flags...)
			require.Equal(t, 0, code, out)
		}
	})
}

// The program is killed in the middle of a layer. The next run goes on there.
func TestAKilledPullIsContinuedWithinTheLayer(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		s, n := startSite(t, pullertest.Config{}), newNode(t, d)
		const layer = 40 << 20
		image := s.put(t, "team/app:v1", layer, 1000)
		s.stopAt = 30 << 20
		cmd := child(t, "-address", d.Socket, image)
		var once sync.Once
		reached := make(chan struct{})
		stop := func() bool { once.Do(func() { close(reached) }); return false }
		s.stop.Store(&stop)
		require.NoError(t, cmd.Start())
		<-reached
		// Wait until containerd has the bytes that were sent.
		require.Eventually(t, func() bool {
			return strings.Contains(n.Ctr(t, "k8s.io", "content", "active"), "layer-sha256:") && arrived(n) >= 29<<20
		}, 30*time.Second, 10*time.Millisecond)
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
		s.stop.Store(nil)

		n.Ctr(t, "k8s.io", "leases", "create", "--id", "test") // a garbage collection in between
		n.Ctr(t, "k8s.io", "leases", "rm", "--sync", "test")
		code, out := call(t, "-address", d.Socket, image)
		require.Equal(t, 0, code, out)
		assert.Regexp(t, `of which (29|30|31)\d{6} were kept from an earlier try`, out)
		total := s.Counts().BlobBytes
		assert.Less(t, total, int64(layer*11/10), "both runs together fetch at most 1.1 times the image")
		t.Logf("%.3f of the image's bytes were fetched in all", float64(total)/float64(layer))
		n.usable(image)
	})
}

// arrived returns how many bytes of unfinished blobs containerd has.
func arrived(n node) (total int64) {
	_ = filepath.Walk(filepath.Join(n.Root, "io.containerd.content.v1.content", "ingest"), func(path string, info os.FileInfo, err error) error {
		if err == nil && filepath.Base(path) == "data" {
			total += info.Size()
		}
		return nil
	})
	return total
}

// Two processes pull one image at the same time, and together they fetch each blob once.
func TestTwoProcessesFetchAnImageOnce(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		s, n := startSite(t, pullertest.Config{}), newNode(t, d)
		image := s.put(t, "team/app:v1", 20<<20, 1000)
		var cmds []*exec.Cmd
		var outs [2]bytes.Buffer
		for i := range 2 {
			cmd := child(t, "-address", d.Socket, image)
			cmd.Stdout, cmd.Stderr = &outs[i], &outs[i]
			require.NoError(t, cmd.Start())
			cmds = append(cmds, cmd)
		}
		for i, cmd := range cmds {
			assert.NoError(t, cmd.Wait(), outs[i].String())
		}
		assert.Less(t, s.Counts().BlobBytes, int64(20<<20*11/10))
		n.usable(image)
	})
}

// The kubelet and the program pull an image at the same time. Each blob is fetched once, by
// one of them.
func TestTheKubeletAndTheProgramFetchAnImageOnce(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		s, n := startSite(t, pullertest.Config{}), newNode(t, d)
		image := s.put(t, "team/app:v1", 20<<20, 5<<20)
		s.stopAt = 1 << 20
		both := func() bool { // waits until both have read the manifest, and need the layers
			assert.Eventually(t, func() bool { return s.Counts().ManifestGet >= 2 }, time.Minute, 10*time.Millisecond)
			return true
		}
		s.stop.Store(&both)
		cmd := child(t, "-address", d.Socket, image)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		require.NoError(t, cmd.Start())
		_, err := n.images.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: image}}, grpc.WaitForReady(true))
		assert.NoError(t, err)
		assert.NoError(t, cmd.Wait(), out.String())
		assert.Less(t, s.Counts().BlobBytes, int64(25<<20*11/10))
		n.usable(image)
	})
}

func TestWrongUsageIsExplained(t *testing.T) {
	for want, args := range map[string][]string{
		"no image is named":                          {"-pin"},
		"-parallel 0: give 1 or more":                {"-parallel", "0", "a"},
		"-address is empty":                          {"-address", "", "a"},
		"give all flags before the first image":      {"a", "-namespace", "build"},
		"run with -h for the flags":                  {"-nonsense", "a"},
		"list of images":                             {"-f", filepath.Join(t.TempDir(), "none")},
		"flag -platform":                             {"-platform", "x/y/z/w", "a"},
		`invalid value "Sometimes" for flag -policy`: {"-policy", "Sometimes", "a"},
	} {
		code, out := call(t, args...)
		assert.Contains(t, out, want)
		assert.Equal(t, 2, code, out)
	}
	code, out := call(t, "-h")
	assert.Equal(t, 0, code)
	assert.Contains(t, out, "-address socket")
	for want, args := range map[string][]string{
		"is it running, and is this its socket?": {"-address", filepath.Join(t.TempDir(), "none.sock"), "registry.example/a:v1"},
		"dial unix /nowhere/a%zz#c: ":            {"-address", "/nowhere/a%zz#c", "registry.example/a:v1"},
		"Config.Namespace":                       {"-namespace", "a/b", "a:v1"},
		"pull secrets":                           {"-secret", filepath.Join(t.TempDir(), "none"), "a:v1"},
		"node credentials":                       {"-config", filepath.Join(t.TempDir(), "none"), "a:v1"},
	} {
		code, out := call(t, args...)
		assert.Contains(t, out, want)
		assert.Equal(t, 1, code, out)
	}
}

func TestABlobThatIsBeingFetchedHasNoLine(t *testing.T) {
	blob := ocispec.Descriptor{Digest: "sha256:abc", Size: 5}
	assert.Empty(t, blobLine(puller.Progress{}))
	assert.Empty(t, blobLine(puller.Progress{Blob: blob, State: puller.BlobFetching}))
	assert.Contains(t, blobLine(puller.Progress{Blob: blob, State: puller.BlobRestarted}), "are fetched again")
}

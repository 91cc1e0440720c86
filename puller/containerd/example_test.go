package containerd_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"
	"path/filepath"
	"slices"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/containerd"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// A shelf is a small containerd for the examples: it has one image record.
type shelf struct {
	imagesapi.UnimplementedImagesServer
}

func (shelf) Get(_ context.Context, req *imagesapi.GetImageRequest) (*imagesapi.GetImageResponse, error) {
	if req.Name != "docker.io/library/busybox:1.36" {
		return nil, status.Error(codes.NotFound, "not found")
	}
	return &imagesapi.GetImageResponse{Image: &imagesapi.Image{Name: req.Name, Target: &types.Descriptor{
		MediaType: ocispec.MediaTypeImageIndex, Digest: "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", Size: 610,
	}}}, nil
}

// connect starts the small containerd and connects to it, as a program connects to
// unix:///run/containerd/containerd.sock.
func connect() (conn *grpc.ClientConn, end func()) {
	dir, err := os.MkdirTemp("", "cd")
	if err != nil {
		log.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	imagesapi.RegisterImagesServer(server, shelf{})
	go server.Serve(l)
	conn, err = grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	return conn, func() {
		conn.Close()
		server.Stop()
		os.RemoveAll(dir)
	}
}

func ExampleNew() {
	conn, end := connect() // grpc.NewClient("unix:///run/containerd/containerd.sock", ...)
	defer end()
	store, err := containerd.New(conn, containerd.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	desc, err := store.Lookup(context.Background(), reference.MustParse("busybox:1.36"))
	fmt.Println(desc.MediaType, err)
	_, err = store.Lookup(context.Background(), reference.MustParse("busybox:1.37"))
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output:
	// application/vnd.oci.image.index.v1+json <nil>
	// true
}

// The Store is passed to transfer.New, and the Puller pulls for the platform that containerd uses.
func ExampleStore() {
	conn, end := connect()
	defer end()
	store, err1 := containerd.New(conn, containerd.Config{})
	rt, err2 := transfer.New(transfer.Config{Store: store})
	p, err3 := puller.New(puller.Config{Runtime: rt, Platform: containerd.Platform(), Admission: containerd.OnlyPublic(nil)})
	if err := errors.Join(err1, err2, err3); err != nil {
		fmt.Println(err)
		return
	}
	_, err := p.Pull(context.Background(), puller.Request{Image: "busybox:1.37", Policy: pullpolicy.Never})
	fmt.Println(errors.Is(err, puller.ErrImageNeverPull))
	// Output: true
}

// The images of one team are pinned.
func ExampleConfig() {
	conn, end := connect()
	defer end()
	team := []string{"registry.example/team/agent", "registry.example/team/model"}
	_, err := containerd.New(conn, containerd.Config{
		Pin: func(ref reference.Reference) bool { return slices.Contains(team, ref.Name()) },
	})
	fmt.Println(err)
	_, err = containerd.New(conn, containerd.Config{Namespace: "k8s/io"})
	fmt.Println(err)
	// Output:
	// <nil>
	// containerd: Config.Namespace is "k8s/io": give letters and digits, joined by '.', '_' or '-', 76 at most
}

func ExamplePlatform() {
	p := containerd.Platform()
	fmt.Println(p.OS != "", p.Architecture != "", p.Architecture == "amd64" && p.Variant != "")
	// Output: true true false
}

// A private image is refused although the credential opens it.
func ExampleOnlyPublic() {
	reg, err := pullertest.Start(pullertest.Config{Auth: pullertest.AuthBasic, Users: []pullertest.User{{Name: "robot", Password: "secret"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reg.Close()
	_, err1 := reg.PutImage("team/app:v1", pullertest.ImageSpec{Platforms: []ocispec.Platform{containerd.Platform()}})
	var store content.Store = &pullertest.MemStore{} // in place of containerd
	rt, err2 := transfer.New(transfer.Config{Store: store})
	p, err3 := puller.New(puller.Config{
		Runtime: rt, Platform: containerd.Platform(), Admission: containerd.OnlyPublic(nil),
		Keyring: credentials.Static{{Username: "robot", Password: credentials.Conceal("secret")}},
	})
	if err := errors.Join(err1, err2, err3); err != nil {
		fmt.Println(err)
		return
	}
	_, err = p.Pull(context.Background(), puller.Request{Image: reg.Host() + "/team/app:v1"})
	fmt.Println(errors.Is(err, containerd.ErrPrivate))
	// Output: true
}

func ExampleErrPrivate() {
	err := fmt.Errorf("pull: %w", containerd.ErrPrivate)
	if errors.Is(err, containerd.ErrPrivate) {
		fmt.Println("pull it by the kubelet, or put it there on purpose")
	}
	// Output: pull it by the kubelet, or put it there on purpose
}

package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/keylock"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
	"google.golang.org/grpc"
)

// KubernetesNamespace is the namespace of containerd in which its CRI plugin, and so the
// kubelet, looks for images.
const KubernetesNamespace = "k8s.io"

// A Config has the settings of a Store. A zero field means its default.
type Config struct {
	// Namespace is the namespace of containerd. "" means KubernetesNamespace.
	Namespace string
	// Pin reports whether an image that is tagged gets the label with which CRI pins
	// images, so that the kubelet's image garbage collection keeps the image. containerd
	// reads the label from version 1.7 on. Tag does not remove the label from an image. If
	// Pin is nil, no image gets the label. Pin may be called concurrently.
	Pin func(ref reference.Reference) bool
	// KeepUnnamed is how long containerd keeps content that no image leads to: blobs and
	// parts of blobs of pulls that have failed or were killed. A later pull goes on with
	// them. KeepUnnamed is the time after which a lease of the Store expires. Each blob must
	// arrive within half of this time. Zero means 24 hours. A negative value and a value of
	// less than a minute are errors.
	KeepUnnamed time.Duration
}

// Platform returns the platform for which containerd's CRI plugin on this machine selects the
// manifest of an index. Use it as puller.Config.Platform. It is index.Host without the level of
// an amd64 processor, because containerd does not look at the level: if an index has linux/amd64
// and linux/amd64/v3, containerd runs linux/amd64.
func Platform() ocispec.Platform {
	p := index.Host()
	if p.Architecture == "amd64" {
		p.Variant = ""
	}
	return p
}

// minKeep is the least Config.KeepUnnamed.
const minKeep = time.Minute

// A Store keeps images in containerd. It is a content.Store, and also a
// content.PartialReporter, a content.Holder and a content.Remover. Its methods may be called
// concurrently, and other processes and containerd's own clients may use the same
// containerd. New returns a Store; the zero Store is not usable.
type Store struct {
	client  *client
	pin     func(reference.Reference) bool
	holder  *holder
	ingests keylock.Locks // a lock for each digest that is being stored
}

var (
	_ content.Store           = (*Store)(nil)
	_ content.PartialReporter = (*Store)(nil)
	_ content.Holder          = (*Store)(nil)
	_ content.Remover         = (*Store)(nil)
)

// isNamespace reports whether containerd accepts s as the name of a namespace: at most 76
// letters and digits, joined by single characters of ".", "_" and "-".
func isNamespace(s string) bool {
	joins := true // the next character must be a letter or a digit
	for _, r := range []byte(s) {
		switch {
		case '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z':
			joins = false
		case (r == '.' || r == '_' || r == '-') && !joins:
			joins = true
		default:
			return false
		}
	}
	return !joins && len(s) <= 76
}

// New returns a Store that keeps images in the containerd to which conn is a connection, such as
// that of grpc.NewClient for "unix:///run/containerd/containerd.sock". The caller closes
// conn after the last call of the Store. New does no I/O. The error names the field of conf
// that is wrong.
func New(conn grpc.ClientConnInterface, conf Config) (*Store, error) {
	if conf.Namespace == "" {
		conf.Namespace = KubernetesNamespace
	}
	if !isNamespace(conf.Namespace) {
		return nil, fmt.Errorf("containerd: Config.Namespace is %.80q: give letters and digits, joined by '.', '_' or '-', 76 at most", conf.Namespace)
	}
	if conf.KeepUnnamed == 0 {
		conf.KeepUnnamed = 24 * time.Hour
	}
	if conf.KeepUnnamed < minKeep {
		return nil, fmt.Errorf("containerd: Config.KeepUnnamed is %s: give %s or more, or zero for the default", conf.KeepUnnamed, minKeep)
	}
	if conn == nil {
		return nil, errors.New("containerd: the connection is nil: give one of grpc.NewClient")
	}
	c := newClient(conn, conf.Namespace)
	return &Store{client: c, pin: conf.Pin, holder: newHolder(c, conf.KeepUnnamed)}, nil
}

// Has reports whether desc's content is stored. Content of another size counts as missing.
// Between Hold and its release, content for which Has returns true is kept.
func (s *Store) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return false, err
	}
	has, err := s.client.has(ctx, desc)
	if err != nil || !has {
		return false, err
	}
	leased, err := s.holder.keep(ctx, desc.Digest)
	if err != nil || !leased {
		return err == nil, err
	}
	// The content may have been removed before the lease kept it.
	return s.client.has(ctx, desc)
}

// Open opens desc's content for reading. Reads fail after the end of ctx. The error wraps
// fs.ErrNotExist if the content is not stored. The content was verified when it was stored, and
// is not verified again when it is read.
func (s *Store) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return nil, err
	}
	has, err := s.client.has(ctx, desc)
	if err != nil {
		return nil, err
	}
	if !has {
		return nil, notStored(desc.Digest)
	}
	call, cancel := context.WithCancelCause(s.client.header(ctx, ""))
	r := &reader{caller: ctx, cancel: cancel, desc: desc}
	if desc.Size == 0 {
		return r, nil
	}
	r.stream, err = s.client.content.Read(call, &contentapi.ReadContentRequest{Digest: string(desc.Digest)}, options...)
	if err != nil {
		cancel(nil)
		return nil, fail(ctx, err, "read blob %s", desc.Digest)
	}
	return r, nil
}

func notStored(d digest.Digest) error {
	return fmt.Errorf("containerd: blob %s is not stored: %w", d, fs.ErrNotExist)
}

// A reader reads stored content. It may be used by one goroutine at a time.
type reader struct {
	caller context.Context // of Open
	cancel context.CancelCauseFunc
	stream contentapi.Content_ReadClient
	desc   ocispec.Descriptor
	off    int64
	rest   []byte // bytes that have arrived and were not read yet
}

func (r *reader) Read(p []byte) (int, error) {
	if r.off == r.desc.Size {
		return 0, io.EOF
	}
	for len(r.rest) == 0 {
		limit := time.AfterFunc(callTime, func() { r.cancel(errTooLong) })
		resp, err := r.stream.Recv()
		limit.Stop()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, fail(r.caller, err, "read blob %s", r.desc.Digest)
		}
		if n := len(resp.GetData()); n == 0 || resp.GetOffset() != r.off || int64(n) > r.desc.Size-r.off {
			return 0, &content.Error{Reason: content.ErrStore, Err: fmt.Errorf("containerd: read blob %s: it sent %d bytes at offset %d, and 1 to %d bytes at offset %d were expected",
				r.desc.Digest, len(resp.GetData()), resp.GetOffset(), r.desc.Size-r.off, r.off)}
		}
		r.rest = resp.GetData()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	r.off += int64(n)
	return n, nil
}

// Close ends the stream.
func (r *reader) Close() error {
	r.cancel(nil)
	return nil
}

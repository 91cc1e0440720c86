package containerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	// callTime is the longest time for one call of containerd, or for one message of a
	// stream.
	callTime = time.Minute
	// hashTime is the longest time for a call in which containerd hashes or syncs a whole
	// blob, or collects garbage. The calls are a commit, the start of an ingest that has bytes
	// already, and the last call of a removal.
	hashTime = 15 * time.Minute
	// maxReply is the most bytes of an answer. A longer list of images is an error.
	maxReply = 64 << 20
	// maxText is the most bytes of a text of containerd that an error quotes.
	maxText = 400
)

// A client calls the services of containerd, in one namespace.
type client struct {
	content   contentapi.ContentClient
	images    imagesapi.ImagesClient
	leases    leasesapi.LeasesClient
	namespace string
}

func newClient(conn grpc.ClientConnInterface, namespace string) *client {
	return &client{
		content:   contentapi.NewContentClient(conn),
		images:    imagesapi.NewImagesClient(conn),
		leases:    leasesapi.NewLeasesClient(conn),
		namespace: namespace,
	}
}

// options are the options of every call.
var options = []grpc.CallOption{grpc.MaxCallRecvMsgSize(maxReply)}

// Names of the headers that containerd reads.
const (
	namespaceHeader = "containerd-namespace"
	leaseHeader     = "containerd-lease"
)

// header returns ctx with the headers for containerd. lease is the ID of a lease, or "".
// Headers of the caller's ctx stay, except these two.
func (c *client) header(ctx context.Context, lease string) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx) // a copy
	if md == nil {
		md = metadata.MD{}
	}
	md.Set(namespaceHeader, c.namespace)
	md.Delete(leaseHeader)
	if lease != "" {
		md.Set(leaseHeader, lease)
	}
	return metadata.NewOutgoingContext(ctx, md)
}

// call returns the context for one call.
func (c *client) call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(c.header(ctx, ""), callTime, errTooLong)
}

// errTooLong says that containerd has not answered in time.
var errTooLong = errors.New("no answer within the time limit")

// fail returns the error for a failed call, and nil if err is nil. ctx is the caller's context.
// If ctx has ended, fail returns its cause.
func fail(ctx context.Context, err error, doing string, args ...any) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), errTooLong) {
		return context.Cause(ctx)
	}
	e := answer(err, doing, args...)
	switch code := status.Code(err); {
	case code == codes.NotFound:
		e.means = fs.ErrNotExist
		return e
	case code == codes.DeadlineExceeded, code == codes.Canceled:
		e.text += ": " + errTooLong.Error()
	case code == codes.Unavailable && strings.Contains(err.Error(), "permission denied"):
		e.text += "; run this as root, or as another user that may use the socket"
	case code == codes.Unavailable && !locked(err):
		e.text += "; is it running, and is this its socket?"
	case code == codes.Unimplemented:
		e.text += "; another program than containerd answers, or a containerd without this service: is this its socket?"
	case isNoSpace(err.Error()):
		e.means = content.ErrNoSpace
	}
	return &content.Error{Reason: content.ErrStore, Err: e}
}

// A callError is the error of a failed call of containerd.
type callError struct {
	text  string
	means error // the error that it wraps, or nil
}

// answer returns err as a callError, with the text of containerd in one line.
func answer(err error, doing string, args ...any) *callError {
	text := err.Error()
	if s, ok := status.FromError(err); ok {
		text = s.Message()
	}
	return &callError{text: fmt.Sprintf("containerd: "+doing, args...) + ": " + redact.Escape(text, maxText)}
}

func (e *callError) Error() string { return e.text }
func (e *callError) Unwrap() error { return e.means }

// isNoSpace reports whether the text of an error says that the disk or a quota is full. The text
// decides, because containerd does not send the number of the system's error.
func isNoSpace(text string) bool {
	return strings.Contains(text, "no space left on device") || strings.Contains(text, "disk quota exceeded") ||
		strings.Contains(text, "There is not enough space on the disk")
}

// locked reports whether containerd says that another stream writes to the same ingest.
func locked(err error) bool {
	s, _ := status.FromError(err)
	return s.Code() == codes.Unavailable && strings.Contains(s.Message(), "ref ") && strings.Contains(s.Message(), " locked")
}

// is reports whether containerd has answered with this code.
func is(err error, code codes.Code) bool { return err != nil && status.Code(err) == code }

// info returns what containerd knows about the content with a digest. ok is false if containerd
// does not have the content.
func (c *client) info(ctx context.Context, d digest.Digest) (info *contentapi.Info, ok bool, err error) {
	call, cancel := c.call(ctx)
	defer cancel()
	resp, err := c.content.Info(call, &contentapi.InfoRequest{Digest: string(d)}, options...)
	if is(err, codes.NotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fail(ctx, err, "look for blob %s", d)
	}
	return resp.GetInfo(), true, nil
}

// has reports whether containerd has all of desc's content.
func (c *client) has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	info, ok, err := c.info(ctx, desc.Digest)
	return ok && info.GetSize() == desc.Size, err
}

// abort removes the bytes of an ingest. It succeeds if the ingest does not exist. It works
// after the end of ctx too.
func (c *client) abort(ctx context.Context, ref string) error {
	ctx = context.WithoutCancel(ctx)
	call, cancel := c.call(ctx)
	defer cancel()
	_, err := c.content.Abort(call, &contentapi.AbortRequest{Ref: ref}, options...)
	if is(err, codes.NotFound) {
		return nil
	}
	return fail(ctx, err, "remove the bytes that have arrived of %s", ref)
}

// kept returns how many bytes an ingest has.
func (c *client) kept(ctx context.Context, ref string) (int64, error) {
	call, cancel := c.call(ctx)
	defer cancel()
	resp, err := c.content.Status(call, &contentapi.StatusRequest{Ref: ref}, options...)
	if is(err, codes.NotFound) {
		return 0, nil
	}
	return resp.GetStatus().GetOffset(), fail(ctx, err, "ask how many bytes have arrived of %s", ref)
}

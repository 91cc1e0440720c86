package serve

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/share"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/reference"
)

// A Config says what a Handler serves and to whom. Store must be set, and Records or
// Allow.
type Config struct {
	// Store has the images, such as a layout.Layout.
	Store content.Lister
	// Records are those of the Puller that fills the Store. They say what is public: what
	// came from the registry itself without a credential; see records.Access. Only that is
	// served if Allow is nil. If the Records can be listed, as a records.Dir can, an image
	// is also served if another public image has brought some of its blobs. The names in the
	// Records must be whole: under puller.Kubelet.NameAsWritten an image is public only if
	// its name was written with registry and repository. Nil means that nothing is public.
	Records records.Store
	// Allow decides about images that are not public. image is the name that the Store has
	// for it, with the tag or the digest. A nil error serves the image to the client of r,
	// with its blobs. The client does not learn the error: for it the image does not
	// exist.
	//
	// Allow decides by the name. A manifest can name blobs that other images of the Store
	// have brought, so Allow must not accept a repository whose author may not have what
	// the Store has. Nil means that nothing else is served.
	Allow func(r *http.Request, image reference.Reference) error
	// DefaultRegistry is the registry of names that say none: without the parameter ns,
	// and with a path that does not begin with a registry. "" means docker.io.
	DefaultRegistry string
	// Puller pulls images that a client asks for and the Store does not have, with the
	// Puller's own credentials and for the Puller's platform. Its Runtime must fill Store,
	// and its Records should be Records. Equal requests share one pull. A pull ends when no
	// request waits for it, and the next one continues it. What was pulled is served if it
	// is public or if Allow accepts it. Nil means that nothing is pulled.
	Puller *puller.Puller
	// PullFrom lists the registries, as image names have them, whose images the Puller
	// pulls on request. Otherwise a client could make this host ask any address. Every
	// client can make it pull every image of these registries, so prune the Store. PullFrom
	// must not be empty if Puller is set.
	PullFrom []string
	// PullTimeout is how long a request waits for a pull. The client then gets 503 with
	// Retry-After. Zero means 5 minutes.
	PullTimeout time.Duration
	// Parallel is how many manifests and blobs are sent at the same time. A further
	// request takes the place of a client that reads less than 32 KiB/s, or gets 429 with
	// Retry-After. At most 16 times as many requests wait for a pull or for the disk.
	// Zero means 64.
	Parallel int
	// StallTimeout is how long a client may take to read 128 KiB, or an answer without
	// content. A client that is slower is cut. Zero means 30 seconds. The times for the
	// header of a request and between requests are those of the http.Server.
	StallTimeout time.Duration
	// Logger gets each request at level debug, and what is refused, cut or pulled at level
	// info. Nil means no log.
	Logger *slog.Logger
}

// The defaults of a Config's zero fields.
const (
	defaultRegistry     = "docker.io"
	defaultPullTimeout  = 5 * time.Minute
	defaultParallel     = 64
	defaultStallTimeout = 30 * time.Second
)

// waitingPerLane is how many requests may be under way for each that is being sent.
const waitingPerLane = 16

// A Handler serves images to clients of the OCI distribution API. [New] makes one. Its
// methods may be called concurrently.
type Handler struct {
	store           content.Lister
	allow           func(*http.Request, reference.Reference) error
	defaultRegistry string
	puller          *puller.Puller
	pullFrom        []string
	pullTimeout     time.Duration
	stall           time.Duration
	log             *slog.Logger

	catalog catalog
	public  publicContent
	lanes   lanes
	shared  share.Calls[reference.Reference, puller.Image]
	pulls   chan struct{} // has one element for each name that is being pulled
	waiting atomic.Int64  // requests under way
	most    int64         // of them
}

// New returns a Handler. It does no I/O. The error names the field of conf that cannot be
// used.
func New(conf Config) (*Handler, error) {
	fail := func(format string, args ...any) (*Handler, error) {
		return nil, fmt.Errorf("serve: Config."+format, args...)
	}
	switch {
	case conf.Store == nil:
		return fail("Store is nil; set it, for example to what layout.Open returns")
	case conf.Records == nil && conf.Allow == nil:
		return fail("Records and Allow are nil, so nothing could be served; set Records to those of the Puller, for example to what records.Open returns")
	case conf.Puller == nil && len(conf.PullFrom) > 0:
		return fail("PullFrom is set without Puller")
	case conf.Puller != nil && len(conf.PullFrom) == 0:
		return fail("PullFrom is empty; list the registries whose images may be pulled on request")
	case conf.Parallel < 0:
		return fail("Parallel is %d, which is negative", conf.Parallel)
	case conf.StallTimeout < 0:
		return fail("StallTimeout is %v, which is negative", conf.StallTimeout)
	case conf.PullTimeout < 0:
		return fail("PullTimeout is %v, which is negative", conf.PullTimeout)
	}
	h := &Handler{
		store:           conf.Store,
		allow:           conf.Allow,
		defaultRegistry: cmp.Or(conf.DefaultRegistry, defaultRegistry),
		puller:          conf.Puller,
		pullTimeout:     cmp.Or(conf.PullTimeout, defaultPullTimeout),
		stall:           cmp.Or(conf.StallTimeout, defaultStallTimeout),
		log:             conf.Logger,
		pulls:           make(chan struct{}, maxPulls),
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if err := checkRegistry(h.defaultRegistry); err != nil {
		return fail("DefaultRegistry is %.200q: %w", h.defaultRegistry, err)
	}
	for _, r := range conf.PullFrom {
		if err := checkRegistry(r); err != nil {
			return fail("PullFrom has %.200q: %w", r, err)
		}
		h.pullFrom = append(h.pullFrom, reference.MustParse(r+"/a").Registry())
	}
	h.lanes.limit = cmp.Or(conf.Parallel, defaultParallel)
	h.most = waitingPerLane * int64(h.lanes.limit)
	h.catalog.init(conf.Store)
	h.public.init(conf.Records)
	return h, nil
}

// ServeHTTP answers one request. See the package comment for what it serves.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	control := http.NewResponseController(w)
	if r.ContentLength != 0 {
		// The body is not read. The http.Server reads the beginning of what is left, and
		// without a deadline it would wait for it as long as the client likes.
		w.Header().Set("Connection", "close")
		_ = control.SetReadDeadline(start.Add(h.stall)) // it fails if the server has no deadlines
	}
	err := h.serve(w, r)
	if err == nil {
		h.log.DebugContext(r.Context(), "served", "method", r.Method, "path", shown(r.URL.Path), "ns", shown(r.URL.Query().Get("ns")), "client", r.RemoteAddr, "took", time.Since(start))
		return
	}
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client has left; without this it could read an empty 200
	}
	no := refusalOf(err)
	h.log.InfoContext(r.Context(), "refused", "method", r.Method, "path", shown(r.URL.Path), "ns", shown(r.URL.Query().Get("ns")), "client", r.RemoteAddr, "status", no.status, "reason", redact.Text(err.Error()))
	_ = control.SetWriteDeadline(time.Now().Add(h.stall)) // as above
	no.write(w, r)
}

// shown returns text from a client for a log.
func shown(s string) string { return redact.Escape(s, maxShown) }

// serve answers a request. An error is answered by the caller.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request) error {
	what, repository, blob, name := splitPath(r.URL.Path)
	switch {
	case what == endpointNone:
		return refuse(http.StatusNotFound, "UNSUPPORTED", "not a path of the API; all of them begin with /v2/")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return &refusal{status: http.StatusMethodNotAllowed, code: "UNSUPPORTED", message: "images can only be pulled from here", allow: "GET, HEAD"}
	case what == endpointRoot:
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(h.stall))
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("{}"))
		return nil
	case what == endpointReferrers:
		return refuse(http.StatusNotFound, "UNSUPPORTED", "the referrers API is not served")
	case what == endpointOther:
		return &refusal{status: http.StatusMethodNotAllowed, code: "UNSUPPORTED", message: "only manifests and blobs are served"}
	}
	if h.waiting.Add(1) > h.most {
		h.waiting.Add(-1)
		return errBusy
	}
	defer h.waiting.Add(-1)
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		// Without ns it could be a request for another registry.
		return badName("NAME_INVALID", "the query of the URL cannot be read: %s", redact.Cut(err.Error(), maxShown))
	}
	t, err := h.parseTarget(repository, blob, name, query)
	if err != nil {
		return err
	}
	found, err := h.find(r, t)
	if err != nil {
		return err
	}
	return h.send(w, r, found)
}

// pullsFrom reports whether images of the registry are pulled on request.
func (h *Handler) pullsFrom(registry string) bool { return slices.Contains(h.pullFrom, registry) }

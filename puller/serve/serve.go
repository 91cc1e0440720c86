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

// A Config says which content a Handler serves, and to which clients. Store must be set,
// and Records or Allow or both.
type Config struct {
	// Store has the images, such as a layout.Layout.
	Store content.Lister
	// Records are those of the Puller that fills the Store. They say which content is public:
	// content that came to this node without a credential, after the registry itself has said
	// without a credential what the name points to; see records.Access. If Allow is nil, only
	// public content is served. If the Records are a records.Lister, as a records.Dir is, an
	// image is also served if another public image has brought some of its blobs. The names
	// in the Records must be full names: under puller.Kubelet.NameAsWritten an image is
	// public only if its name was written with registry and repository. Nil means that
	// nothing is public.
	Records records.Store
	// Allow decides whether the client that sent r may have an image that is not public.
	// image is the name that the Store has for the image, with the tag or the digest. If
	// Allow returns nil, the image is served with its blobs. If it returns an error, the
	// client gets the same answer as for an image that does not exist, and does not see the
	// error.
	//
	// Allow decides by the name. A manifest can name blobs that other images of the Store
	// have brought. So Allow must not accept a repository if its author may not have all
	// content of the Store. A nil Allow means that only public content is served.
	Allow func(r *http.Request, image reference.Reference) error
	// DefaultRegistry is the registry of requests that name no registry: without the
	// parameter ns, and with a path that does not start with a registry. "" means docker.io.
	DefaultRegistry string
	// Puller pulls images that a client asks for and the Store does not have, with the
	// Puller's own credentials and for the Puller's platform. Its Runtime must fill Store,
	// and its Records should be Records. Equal requests share one pull. A pull ends when no
	// request waits for it, and the next one continues it. The pulled image is served if it
	// is public or if Allow accepts it. Nil means that nothing is pulled.
	Puller *puller.Puller
	// PullFrom lists the registries, as image names have them, whose images the Puller pulls
	// on request. Without this list a client could make this host send requests to any
	// address. Every client can make the Puller pull every image of these registries, so
	// prune the Store. PullFrom must not be empty if Puller is set.
	PullFrom []string
	// PullTimeout is how long a request waits for a pull. The client then gets 503 with
	// Retry-After. Zero means 5 minutes.
	PullTimeout time.Duration
	// Parallel is how many manifests and blobs are sent at the same time. A further request
	// takes the place of a client that reads less than 32 KiB/s, or gets 429 with
	// Retry-After. At most 16 times as many requests are handled at the same time, and
	// further requests get 429 too. Zero means 64.
	Parallel int
	// StallTimeout is how long a client may take to read 128 KiB, or an answer without
	// content. The connection of a slower client is cut. Zero means 30 seconds. The times for
	// the header of a request and between requests are those of the http.Server.
	StallTimeout time.Duration
	// Logger gets each served request at level debug, and each refusal, cut and pull at level
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

// waitingPerLane is how many requests for content may run at the same time for each lane.
const waitingPerLane = 16

// A Handler serves images to clients of the OCI distribution API. [New] makes a Handler;
// the zero Handler cannot be used. Its methods may be called concurrently.
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
	pulls   chan struct{} // has one element for each running pull
	waiting atomic.Int64  // how many requests for content run now
	most    int64         // how many may run
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
		return fail("Records and Allow are nil, so nothing could be served; set Records to the records of the Puller, for example to what records.Open returns")
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

// ServeHTTP answers one request. The package comment says which requests are served.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	control := http.NewResponseController(w)
	if r.ContentLength != 0 {
		// The body is not read here. The http.Server reads the start of a body that is left, and
		// without a deadline it would wait for that as long as the client likes.
		w.Header().Set("Connection", "close")
		_ = control.SetReadDeadline(start.Add(h.stall)) // it fails if the server has no deadlines
	}
	err := h.serve(w, r)
	if err == nil {
		h.log.DebugContext(r.Context(), "served", "method", r.Method, "path", shown(r.URL.Path), "ns", shown(r.URL.Query().Get("ns")), "client", r.RemoteAddr, "took", time.Since(start))
		return
	}
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client has left; without the panic it could still get an empty answer with status 200
	}
	no := refusalOf(err)
	h.log.InfoContext(r.Context(), "refused", "method", r.Method, "path", shown(r.URL.Path), "ns", shown(r.URL.Query().Get("ns")), "client", r.RemoteAddr, "status", no.status, "reason", redact.Text(err.Error()))
	_ = control.SetWriteDeadline(time.Now().Add(h.stall)) // as above
	no.write(w, r)
}

// shown returns text from a client for a log.
func shown(s string) string { return redact.Escape(s, maxShown) }

// serve answers a request. If it returns an error, the caller answers.
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
		// ns could be in the part that cannot be read, and then the request is for another
		// registry.
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

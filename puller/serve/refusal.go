package serve

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"strconv"
	"time"
)

// A refusal is an answer without content, in the form of an error of the distribution
// specification.
type refusal struct {
	status  int
	code    string
	message string // for the client
	allow   string // for a 405: the methods that are allowed
	after   time.Duration
	cause   error // for the log; the client does not see it
}

func refuse(status int, code, message string) error {
	return &refusal{status: status, code: code, message: message}
}

func (e *refusal) Error() string {
	if e.cause != nil {
		return e.cause.Error()
	}
	return e.message
}

func (e *refusal) Unwrap() error { return e.cause }

// errBusy is the answer if the Handler has too many requests.
var errBusy = &refusal{status: http.StatusTooManyRequests, code: "TOOMANYREQUESTS", message: "too many requests at the same time", after: time.Second}

// notFound returns the answer for content that does not exist, and for content that the
// client may not have. The answer is the same for both, so that a client does not learn
// whether the content exists. cause is for the log.
func (t target) notFound(cause error) error {
	no := &refusal{status: http.StatusNotFound, code: "MANIFEST_UNKNOWN", message: "the manifest is not known in this repository", cause: cause}
	if t.blob {
		no.code, no.message = "BLOB_UNKNOWN", "the blob is not known in this repository"
	}
	return no
}

// refusalOf returns the answer to the client for an error.
func refusalOf(err error) *refusal {
	var no *refusal
	if errors.As(err, &no) {
		return no
	}
	var name *nameError
	if errors.As(err, &name) {
		return &refusal{status: http.StatusBadRequest, code: name.code, message: name.Error()}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return &refusal{status: http.StatusNotFound, code: "MANIFEST_UNKNOWN", message: "not known"}
	}
	// The store or the records failed. Their errors name paths, which the client must not
	// see.
	return &refusal{status: http.StatusInternalServerError, code: "UNKNOWN", message: "this host cannot read what it has stored"}
}

// write sends the refusal as the answer to r.
func (e *refusal) write(w http.ResponseWriter, r *http.Request) {
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	body, err := json.Marshal(map[string][]entry{"errors": {{e.code, e.message}}})
	if err != nil {
		panic(err) // cannot be: the body has only strings
	}
	header := w.Header()
	header.Set("Content-Type", "application/json; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store") // the content may exist a moment later
	if e.status == http.StatusMethodNotAllowed {
		header.Set("Allow", e.allow)
	}
	if e.after > 0 {
		header.Set("Retry-After", strconv.FormatInt(int64((e.after+time.Second-1)/time.Second), 10))
	}
	w.WriteHeader(e.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

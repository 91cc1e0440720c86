// Package otel turns the events of a puller.Puller into OpenTelemetry spans. Each call has
// one span, with an event for each credential that failed and for each blob that is
// complete, and with the numbers of bytes as attributes.
//
//	spans := otel.NewSpans(tracer)
//	p, err := puller.New(puller.Config{Runtime: rt, Events: spans.Event})
//
// The span of a call starts with the call's first event and ends with its last. If a call
// needs no pull, its span has the length zero. The span of PullWait ends with each failure, and
// another span starts with the next try.
package otel

import (
	"context"
	"sync"

	"github.com/pullkit/pullkit/puller"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Spans turns events into spans. Its method may be called concurrently.
type Spans struct {
	tracer trace.Tracer

	mu   sync.Mutex
	open map[uint64]trace.Span // by Event.Call
}

// NewSpans returns Spans that uses tracer.
func NewSpans(tracer trace.Tracer) *Spans {
	return &Spans{tracer: tracer, open: map[uint64]trace.Span{}}
}

// Event adds an event to the span of its call, which it starts and ends. It is the function
// for puller.Config.Events.
func (s *Spans) Event(e puller.Event) {
	if e.Reason == puller.EventBadSecret {
		return // the span has ended with the event before, which has the same message
	}
	span := s.span(e)
	switch e.Reason {
	case puller.EventProgress:
		progress(span, e)
		return
	case puller.EventPulling, puller.EventHint, puller.EventRecord:
		span.AddEvent(string(e.Reason), trace.WithTimestamp(e.Time), trace.WithAttributes(attribute.String("message", e.Message)))
		return
	case puller.EventAttempt:
		span.AddEvent(string(e.Reason), trace.WithTimestamp(e.Time), trace.WithAttributes(
			attribute.String("credential.origin", e.Attempt.From),
			attribute.String("server.address", e.Attempt.Host),
			attribute.Int("http.response.status_code", e.Attempt.Status),
			attribute.StringSlice("registry.codes", e.Attempt.Codes),
			attribute.String("exception.message", e.Attempt.Error),
		))
		return
	case puller.EventPulled, puller.EventResolved:
		span.SetAttributes(attribute.String("container.image.digest", e.Digest.String()))
		if e.Attempt != nil {
			span.SetAttributes(attribute.String("credential.origin", e.Attempt.From))
		}
		span.SetStatus(codes.Ok, "")
	default: // Failed, BackOff, ErrImageNeverPull, InspectFailed, ResolveFailed
		span.SetAttributes(attribute.String("error.type", string(e.Reason)))
		span.SetStatus(codes.Error, e.Message)
	}
	s.end(span, e)
}

// span returns the span of e's call. The first event of a call starts the span.
func (s *Spans) span(e puller.Event) trace.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	if span, ok := s.open[e.Call]; ok {
		return span
	}
	_, span := s.tracer.Start(context.Background(), "pull image", trace.WithTimestamp(e.Time), trace.WithAttributes(
		attribute.String("container.image.name", e.Image),
		attribute.String("pullkit.platform", e.Platform),
		attribute.Bool("pullkit.shared", e.Shared),
		attribute.String("k8s.namespace.name", e.Pod.Namespace),
		attribute.String("k8s.pod.name", e.Pod.Name),
		attribute.String("k8s.pod.uid", e.Pod.UID),
	))
	s.open[e.Call] = span
	return span
}

func (s *Spans) end(span trace.Span, e puller.Event) {
	span.End(trace.WithTimestamp(e.Time))
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, e.Call)
}

// progress adds an event only for a blob that is complete, and not for each step.
func progress(span trace.Span, e puller.Event) {
	p := e.Progress
	span.SetAttributes(
		attribute.Int64("pullkit.bytes.total", p.Total),
		attribute.Int64("pullkit.bytes.done", p.TotalDone),
		attribute.Int64("pullkit.bytes.resumed", p.TotalResumed),
	)
	if p.State == "" || p.State == puller.BlobFetching {
		return
	}
	span.AddEvent("blob "+string(p.State), trace.WithTimestamp(e.Time), trace.WithAttributes(
		attribute.String("pullkit.blob.digest", p.Blob.Digest.String()),
		attribute.Int64("pullkit.blob.size", p.Blob.Size),
		attribute.Int64("pullkit.blob.resumed", p.Resumed),
	))
}

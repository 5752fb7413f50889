package httpauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/packets"
)

// verdict is what the service has decided. It never changes.
type verdict struct {
	code     packets.ReasonCode // Success allows, anything else denies
	identity string             // empty means the user name
	expires  time.Time          // of the credentials; zero means never
	rights   *rights            // nil if there are none
	check    bool               // each delivery
	until    time.Time          // when it is not used again
	asked    uint64             // when, as the ledger counts
}

// owner is whose verdict it is, with the name that was asked about.
func (v *verdict) owner(who string) string {
	if v.identity != "" {
		return v.identity
	}
	return who
}

// connectAnswer allows or denies a CONNECT.
type connectAnswer struct {
	Result    string     `json:"result"`
	Identity  string     `json:"identity"`
	Expires   *time.Time `json:"expires"`
	Superuser bool       `json:"superuser"`
	Rights    *struct {
		Publish   []string `json:"publish"`
		Subscribe []string `json:"subscribe"`
	} `json:"rights"`
}

// accessAnswer allows or denies something that a client does.
type accessAnswer struct {
	Result string `json:"result"`
	Check  bool   `json:"check"`
}

// What is wrong with an answer. None of it is quoted: a service that is not what
// it should be may say again what it was asked.
var (
	errType   = errors.New("httpauth: the answer is not application/json")
	errSize   = errors.New("httpauth: the answer is above Options.MaximumAnswerSize")
	errForm   = errors.New("httpauth: the answer is no JSON, or has a key or a value that means nothing")
	errResult = errors.New(`httpauth: the result of the answer is neither "allow" nor "deny"`)
	errRights = errors.New("httpauth: the rights of the answer have what is no topic filter")
)

// decide reads an answer.
func (s *Service) decide(q *question, r *http.Response) (*verdict, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, int64(s.o.MaximumAnswerSize)+1))
	v := new(verdict)
	switch r.StatusCode {
	case http.StatusOK:
		if err != nil {
			return nil, plain(err)
		}
		if err := s.decode(v, q, r.Header.Get("Content-Type"), body); err != nil {
			return nil, err
		}
	case http.StatusUnauthorized:
		v.code = packets.NotAuthorized
		if q.ask == "connect" {
			v.code = packets.BadUserNameOrPassword
		}
	case http.StatusForbidden:
		v.code = packets.NotAuthorized
	default:
		return nil, fmt.Errorf("httpauth: the status of the answer is %d", r.StatusCode)
	}
	v.until = s.keepUntil(v, r.Header.Values("Cache-Control"))
	return v, nil
}

// decode fills in v from the body of an answer with the status 200.
func (s *Service) decode(v *verdict, q *question, contentType string, body []byte) error {
	if len(body) > s.o.MaximumAnswerSize {
		return errSize
	}
	if t, _, err := mime.ParseMediaType(contentType); err != nil || t != "application/json" {
		return errType
	}
	if q.ask != "connect" {
		var a accessAnswer
		if err := unmarshal(body, &a); err != nil {
			return err
		}
		v.check = a.Check
		return v.setResult(a.Result)
	}
	var a connectAnswer
	if err := unmarshal(body, &a); err != nil {
		return err
	}
	v.identity = a.Identity
	if a.Expires != nil {
		v.expires = *a.Expires
	}
	switch {
	case a.Superuser:
		v.rights = &rights{all: true}
	case a.Rights != nil:
		grants, err := auth.NewGrants(a.Rights.Publish, a.Rights.Subscribe)
		if err != nil {
			return errRights
		}
		v.rights = &rights{grants: grants}
	}
	return v.setResult(a.Result)
}

func (v *verdict) setResult(result string) error {
	switch result {
	case "allow":
	case "deny":
		v.code = packets.NotAuthorized
	default:
		return errResult
	}
	return nil
}

// unmarshal takes one JSON object with nothing in it that has no meaning.
func unmarshal(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if d.Decode(into) != nil {
		return errForm
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errForm // something follows
	}
	return nil
}

// keepUntil is until when v may be used again.
func (s *Service) keepUntil(v *verdict, cacheControl []string) time.Time {
	age := s.o.AllowFor
	if v.code != packets.Success {
		age = s.o.DenyFor
	}
	if said, ok := maxAge(cacheControl); ok {
		age = min(said, s.o.MaximumAge)
	}
	until := time.Now().Add(age)
	if !v.expires.IsZero() && v.expires.Before(until) {
		until = v.expires
	}
	return until
}

// maxAge is what Cache-Control says of how long an answer may be used again; ok
// is false if it says nothing. What cannot be understood means not at all.
func maxAge(cacheControl []string) (age time.Duration, ok bool) {
	age = longest
	for directive := range strings.SplitSeq(strings.Join(cacheControl, ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return 0, true
		case "max-age":
			seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err != nil {
				return 0, true
			}
			age, ok = min(age, time.Duration(seconds)*time.Second), true
		}
	}
	return age, ok
}

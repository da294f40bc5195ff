// Package query is the wire format that Auto Scaling and CloudFormation share: parameters
// of a form, lists as Name.member.N, and answers in XML with a result and metadata.
package query

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// Invalid is the refusal of a request that makes no sense.
func Invalid(format string, args ...any) *wire.Error {
	return Refuse("ValidationError", format, args...)
}

// Refuse is a refusal with a code.
func Refuse(code, format string, args ...any) *wire.Error {
	return &wire.Error{Status: http.StatusBadRequest, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Params are a call's parameters. Each reader marks what it read, so that a parameter that
// nothing reads can be refused.
type Params struct {
	call wire.Call
	read map[string]bool
	err  error // the first of the readers'
}

// Read makes the parameters of a call readable.
func Read(call wire.Call) *Params {
	return &Params{call: call, read: map[string]bool{"Action": true, "Version": true}}
}

// Fail keeps the first error, for Done.
func (p *Params) Fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

// Done is the first reader's error, or names a parameter that none has read.
func (p *Params) Done() error {
	if p.err != nil {
		return p.err
	}
	var unknown []string
	for name := range p.call.Params {
		if !p.read[name] {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		return Invalid("The lab does not support the parameter %s", slices.Min(unknown))
	}
	return nil
}

// Text is a parameter, or empty.
func (p *Params) Text(name string) string {
	p.read[name] = true
	return p.call.Params.Get(name)
}

// Required is a text that must be there.
func (p *Params) Required(name string) string {
	text := p.Text(name)
	if text == "" {
		p.Fail(Invalid("1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", lower(name)))
	}
	return text
}

// Within is a number with limits; otherwise is what it is when it is not given.
func (p *Params) Within(name string, least, most, otherwise int) int {
	text := p.Text(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		p.Fail(Invalid("1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: Member must be between %d and %d", text, lower(name), least, most))
	}
	return n
}

// OneOf is a text with a fixed set of values; otherwise is what it is when it is not given.
func (p *Params) OneOf(name, otherwise string, values ...string) string {
	text := p.Text(name)
	if text == "" {
		return otherwise
	}
	if !slices.Contains(values, text) {
		p.Fail(Invalid("1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: Member must satisfy enum value set: %v", text, lower(name), values))
	}
	return text
}

// List is the values of Name.member.1, Name.member.2 and so on.
func (p *Params) List(name string) []string {
	p.empty(name)
	var values []string
	for n := 1; p.call.Params.Has(fmt.Sprintf("%s.member.%d", name, n)); n++ {
		values = append(values, p.Text(fmt.Sprintf("%s.member.%d", name, n)))
	}
	return values
}

// Members is the prefixes Name.member.1, Name.member.2 and so on of a list of structures, for
// as long as any parameter has them: a reader is given prefix + ".Key".
func (p *Params) Members(name string) []string {
	p.empty(name)
	var prefixes []string
	for n := 1; ; n++ {
		prefix := fmt.Sprintf("%s.member.%d", name, n)
		if !p.Given(prefix) {
			return prefixes
		}
		prefixes = append(prefixes, prefix)
	}
}

// empty reads what clients send for a list without elements: its name, with no value.
func (p *Params) empty(name string) {
	if p.call.Params.Get(name) == "" {
		p.read[name] = true
	}
}

// Given tells whether a parameter or one of its members is there. It does not count as
// having read it.
func (p *Params) Given(name string) bool {
	for given := range p.call.Params {
		if rest, ok := strings.CutPrefix(given, name); ok && (rest == "" || rest[0] == '.') {
			return true
		}
	}
	return false
}

// Flag is a parameter that is true or false; false when it is not given.
func (p *Params) Flag(name string) bool { return p.OneOf(name, "false", "true", "false") == "true" }

// Pairs is a list of Name.member.N.Key and .Value, such as tags. A key that is empty or comes
// twice is refused.
func (p *Params) Pairs(name string) map[string]string {
	pairs := map[string]string{}
	for _, prefix := range p.Members(name) {
		key := p.Required(prefix + ".Key")
		if _, ok := pairs[key]; ok {
			p.Fail(Invalid("%s holds the key %s more than once", name, key))
		}
		pairs[key] = p.Text(prefix + ".Value")
	}
	return pairs
}

// lower is a member's name as refusals spell it.
func lower(name string) string {
	b := []byte(name)
	if b[0] >= 'A' && b[0] <= 'Z' {
		b[0] += 'a' - 'A'
	}
	return string(b)
}

type metadata struct {
	RequestID string `xml:"RequestId"`
}

type failure struct {
	XMLName xml.Name
	Error   struct {
		Type    string
		Code    string
		Message string
	}
	RequestID string `xml:"RequestId"`
}

// Answer is what an action answers. Its result is encoded under the action's name; nil for
// actions whose answer has no members.
type Answer struct {
	Action string
	Result any
}

// Write sends an Answer, or an error, in the service's namespace.
func Write(w http.ResponseWriter, namespace, id string, value any, err error) {
	status := http.StatusOK
	var document any
	if err != nil {
		f := failure{XMLName: xml.Name{Space: namespace, Local: "ErrorResponse"}, RequestID: id}
		f.Error.Type, f.Error.Code, f.Error.Message, status = explain(err)
		document = f
	} else {
		answer, _ := value.(Answer)
		document = response{namespace: namespace, id: id, Answer: answer}
	}
	body, err := xml.Marshal(document)
	if err != nil {
		http.Error(w, "cannot encode the answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// response is an Answer on the wire: <Action>Response with <Action>Result in it.
type response struct {
	namespace, id string
	Answer
}

// MarshalXML implements xml.Marshaler: the elements are named after the action.
func (r response) MarshalXML(e *xml.Encoder, _ xml.StartElement) error {
	outer := xml.StartElement{Name: xml.Name{Space: r.namespace, Local: r.Action + "Response"}}
	if err := e.EncodeToken(outer); err != nil {
		return err
	}
	if r.Result != nil {
		if err := e.EncodeElement(r.Result, xml.StartElement{Name: xml.Name{Local: r.Action + "Result"}}); err != nil {
			return err
		}
	}
	if err := e.EncodeElement(metadata{r.id}, xml.StartElement{Name: xml.Name{Local: "ResponseMetadata"}}); err != nil {
		return err
	}
	return e.EncodeToken(outer.End())
}

// explain turns an error into what AWS would send.
func explain(err error) (kind, code, message string, status int) {
	var refused *sigv4.Error
	if errors.As(err, &refused) {
		switch refused.Code {
		case sigv4.CodeIncomplete:
			return "Sender", refused.Code, refused.Message, http.StatusBadRequest
		case sigv4.CodeExpired:
			return "Sender", sigv4.CodeMismatch, refused.Message, http.StatusForbidden
		case sigv4.CodeTooLarge:
			return "Sender", refused.Code, refused.Message, http.StatusRequestEntityTooLarge
		}
		return "Sender", refused.Code, refused.Message, http.StatusForbidden
	}
	var told *wire.Error
	switch {
	case errors.As(err, &told):
		return "Sender", told.Code, told.Message, told.Status
	case errors.Is(err, wire.ErrThrottled):
		return "Sender", "Throttling", "Rate exceeded", http.StatusBadRequest
	case errors.Is(err, wire.ErrExhausted):
		return "Sender", "LimitExceeded", "A quota is used up", http.StatusBadRequest
	case errors.Is(err, wire.ErrDenied):
		return "Sender", "AccessDenied", "Access denied", http.StatusForbidden
	}
	return "Receiver", "InternalFailure", "The request processing has failed because of an unknown error.", http.StatusInternalServerError
}

// Denied is the refusal of an action that the caller may not do.
func Denied(service string, call wire.Call) *wire.Error {
	action := service + ":" + call.Action
	return &wire.Error{Status: http.StatusForbidden, Code: "AccessDenied", Message: "User: " + call.Caller.ARN +
		" is not authorized to perform: " + action + " because no identity-based policy allows the " + action + " action"}
}

// Unknown is the refusal of an action that the service does not have.
func Unknown(version string, call wire.Call) *wire.Error {
	return Refuse("InvalidAction", "Could not find operation %s for version %s", call.Action, version)
}

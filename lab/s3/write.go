package s3

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// text is content of an element, written as S3 writes it: characters that XML 1.0 does not
// have become references all the same, and are the reader's to take or refuse.
type text struct {
	XML string `xml:",innerxml"`
}

func asText(s string) text {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '&':
			b.WriteString("&amp;")
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case r < ' ' || r == 0xFFFE || r == 0xFFFF:
			fmt.Fprintf(&b, "&#x%X;", r)
		default:
			b.WriteRune(r)
		}
	}
	return text{b.String()}
}

// asURL is text for a reader that asked for encoding-type=url.
func asURL(s string) text { return text{strings.ReplaceAll(url.QueryEscape(s), "%2F", "/")} }

// Write implements wire.Service.
func (Service) Write(w http.ResponseWriter, r *http.Request, id string, value any, err error) {
	w.Header().Set("X-Amz-Request-Id", id)
	if err != nil {
		writeRefusal(w, id, explain(err))
		return
	}
	a := value.(answer) //nolint:forcetypeassert // Do's
	defer a.Close()
	for name, values := range a.header {
		w.Header()[name] = values
	}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if a.value != nil {
		send(w, a.status, a.value)
		return
	}
	w.WriteHeader(a.status)
	if a.size > 0 && r.Method != http.MethodHead {
		_, _ = io.Copy(w, io.NewSectionReader(a.file, a.first, a.size))
	}
}

func send(w http.ResponseWriter, status int, value any) {
	body, err := xml.Marshal(value)
	if err != nil {
		http.Error(w, "cannot encode the answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(xml.Header)+len(body)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, xml.Header)
	_, _ = w.Write(body)
}

type element struct {
	XMLName xml.Name
	text
}

type refusalBody struct {
	XMLName           xml.Name `xml:"Error"`
	Code, Message     string
	Details           []element
	RequestId, HostId string //nolint:revive // S3's spelling
}

func writeRefusal(w http.ResponseWriter, id string, r *refusal) {
	body := refusalBody{Code: r.told.Code, Message: r.told.Message, RequestId: id, HostId: id}
	for _, d := range r.details {
		body.Details = append(body.Details, element{xml.Name{Local: d.name}, asText(d.value)})
		if d.name == "Region" {
			w.Header().Set("X-Amz-Bucket-Region", d.value)
		}
	}
	send(w, r.told.Status, body)
}

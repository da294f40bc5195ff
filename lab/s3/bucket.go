package s3

import (
	"encoding/xml"
	"maps"
	"net/http"
	"slices"
)

// classic is the region whose buckets have no location constraint, and where a bucket may be
// made again by its owner.
const classic = "us-east-1"

const timeFormat = "2006-01-02T15:04:05.000Z"

// others are the elements that a document has beyond those that are known.
type others []struct{ XMLName xml.Name }

func (o others) refuse() error {
	if len(o) > 0 {
		return notImplemented("the element %s", o[0].XMLName.Local)
	}
	return nil
}

func (s Service) createBucket(q request) (any, error) {
	text, _, err := document(q.Request)
	if err != nil {
		return nil, err
	}
	var in struct {
		XMLName            xml.Name `xml:"CreateBucketConfiguration"`
		LocationConstraint string
		Others             others `xml:",any"`
	}
	if len(text) > 0 {
		if err := xml.Unmarshal(text, &in); err != nil {
			return nil, errMalformedXML
		}
	}
	if err := in.Others.refuse(); err != nil {
		return nil, err
	}
	switch given := in.LocationConstraint; {
	case given == classic:
		return nil, badRequest("InvalidLocationConstraint", "The specified location-constraint is not valid", detail{"LocationConstraint", given})
	case given == "" && q.Region != classic:
		return nil, badRequest("IllegalLocationConstraintException",
			"The unspecified location constraint is incompatible for the region specific endpoint this request was sent to.")
	case given != "" && given != q.Region:
		return nil, badRequest("IllegalLocationConstraintException",
			"The "+given+" location constraint is incompatible for the region specific endpoint this request was sent to.")
	}
	err = s.Buckets.make(q.bucket, q.Region, "")
	if b, ok := s.Buckets.find(q.bucket); ok && b.Region == classic && q.Region == classic {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	return answer{header: http.Header{"Location": {"/" + q.bucket}}}, nil
}

func (s Service) headBucket(q request) (any, error) {
	return answer{header: http.Header{"X-Amz-Bucket-Region": {q.Region}}}, nil
}

func (s Service) deleteBucket(q request) (any, error) {
	if err := s.Buckets.remove(q.bucket); err != nil {
		return nil, err
	}
	return answer{status: http.StatusNoContent}, nil
}

type locationConstraint struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LocationConstraint"`
	Region  string   `xml:",chardata"`
}

func (s Service) getLocation(q request) (any, error) {
	b, ok := s.Buckets.find(q.bucket)
	if !ok {
		return nil, noSuchBucket(q.bucket)
	}
	if b.Region == classic {
		b.Region = ""
	}
	return answer{value: locationConstraint{Region: b.Region}}, nil
}

type bucketList struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
	Owner   struct{ ID string }
	Buckets struct{ Bucket []listedBucket }
}

type listedBucket struct{ Name, CreationDate string }

func (s Service) listBuckets(request) (any, error) {
	all := s.Buckets.all()
	var list bucketList
	list.Owner.ID = s.owner()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		list.Buckets.Bucket = append(list.Buckets.Bucket, listedBucket{name, all[name].Created.Format(timeFormat)})
	}
	return answer{value: list}, nil
}

package ec2

import (
	"encoding/xml"
	"errors"
	"fmt"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
)

type stateChange struct {
	ID       string        `xml:"instanceId"`
	Current  instanceState `xml:"currentState"`
	Previous instanceState `xml:"previousState"`
}

// stateChanges is the answer of the actions that change instances' states.
type stateChanges struct {
	XMLName   xml.Name
	RequestID string        `xml:"requestId"`
	Changes   []stateChange `xml:"instancesSet>item"`
}

func changedBy(p *params, action string, changes []fleet.Change) stateChanges {
	r := stateChanges{XMLName: xml.Name{Space: "http://ec2.amazonaws.com/doc/2016-11-15/", Local: action + "Response"}, RequestID: p.id}
	for _, c := range changes {
		r.Changes = append(r.Changes, stateChange{ID: c.ID, Current: stateOf(c.Result), Previous: stateOf(c.Previous)})
	}
	return r
}

// instanceIDs reads the instances that an action is for. It comes last of an action's
// readers.
func (p *params) instanceIDs() ([]string, error) {
	ids := p.list("InstanceId")
	if len(ids) == 0 {
		p.fail(invalid("MissingParameter", "The request must contain the parameter InstanceId"))
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	return ids, wellFormed(ids)
}

func (s Service) terminateInstances(p *params) (any, error) {
	// Force ends an instance that does not shut down; here each is ended at last.
	skip := p.boolean("SkipOsShutdown") || p.boolean("Force")
	ids, err := p.instanceIDs()
	if err != nil {
		return nil, err
	}
	changes, err := s.Fleet.Terminate(ids, skip)
	if err != nil {
		return nil, refusal(err, "terminated")
	}
	return changedBy(p, "TerminateInstances", changes), nil
}

func (s Service) stopInstances(p *params) (any, error) {
	p.oneOf("Hibernate", "false")
	p.boolean("Force") // ends a guest that does not shut down in time, as each is here
	skip := p.boolean("SkipOsShutdown")
	ids, err := p.instanceIDs()
	if err != nil {
		return nil, err
	}
	changes, err := s.Fleet.Stop(ids, skip)
	if err != nil {
		return nil, refusal(err, "stopped")
	}
	return changedBy(p, "StopInstances", changes), nil
}

func (s Service) startInstances(p *params) (any, error) {
	ids, err := p.instanceIDs()
	if err != nil {
		return nil, err
	}
	changes, err := s.Fleet.Start(ids)
	if err != nil {
		return nil, refusal(err, "started")
	}
	return changedBy(p, "StartInstances", changes), nil
}

func (s Service) rebootInstances(p *params) (any, error) {
	ids, err := p.instanceIDs()
	if err != nil {
		return nil, err
	}
	if err := s.Fleet.Reboot(ids); err != nil {
		return nil, refusal(err, "rebooted")
	}
	return doneWith(p, "RebootInstances"), nil
}

// refusal says in EC2's words why instances cannot be what was asked for.
func refusal(err error, asked string) error {
	var missing *fleet.NotFoundError
	var state *fleet.StateError
	var once *fleet.OneTimeError
	switch {
	case errors.As(err, &missing):
		return notFound(missing.IDs)
	case errors.As(err, &state):
		return invalid("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be %s.", state.ID, asked)
	case errors.As(err, &once):
		return invalid("UnsupportedOperation", "You can't stop the Spot Instance '%s' because it is associated with a one-time Spot Instance request. You can only stop Spot Instances associated with persistent Spot Instance requests.", once.ID)
	}
	return fmt.Errorf("instances are to be %s: %w", asked, err)
}

-- oldest: 1
-- A calendar tells which slots of all tasks were missed. Only slots that started no run: they are few.
CREATE INDEX slots_not_fired ON slots (slot) WHERE verdict <> 'fired';

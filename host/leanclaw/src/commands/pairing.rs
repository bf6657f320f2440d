//! What `leanclaw devices` and `leanclaw nodes` share: naming one of those that a gateway knows by as much of its id as
//! tells it apart, and deciding about one that waits.

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::fields::{list, short, text};
use super::gateway::Plain;
use crate::config::Flags;
use crate::output;
use crate::report::Advice;

/// What one command manages.
pub(super) struct Family {
    /// One of them, such as `device`.
    pub(super) one: &'static str,
    /// Several of them, which is the name of the command as well.
    pub(super) many: &'static str,
    /// The field with the id of one.
    pub(super) id_field: &'static str,
    /// The method that lists those that are let in, and the field they are in.
    pub(super) known: (&'static str, &'static str),
    /// The method that lists those that wait, in the field `pending`.
    pub(super) waiting: &'static str,
}

#[derive(Debug, Args)]
pub(crate) struct Request {
    /// The request, as the list shows it; the only one when it is left out
    request: Option<String>,
    #[command(flatten)]
    plain: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// Its id, or as much of it as tells it apart
    #[arg(value_name = "ID")]
    pub(super) id: String,
    #[command(flatten)]
    pub(super) plain: Plain,
}

impl Family {
    /// Answers a request that waits, with `{requestId}`.
    pub(super) fn decide(&self, flags: Flags, request: Request, method: &str, done: &str) -> Result<()> {
        let Request { request, plain } = request;
        let talk = async |client: &mut crate::client::GatewayClient| {
            let id = match request {
                Some(id) => id,
                None => self.only(list(&client.request(self.waiting, Some(json!({}))).await?, "pending")?)?,
            };
            Ok(client.request(method, Some(json!({"requestId": id}))).await?)
        };
        plain.talk(flags, talk, |payload, _| {
            let inner = payload.get(self.one).unwrap_or(payload);
            output::text(&format!("{} {done}", short(&text(inner, self.id_field))))
        })
    }

    /// Calls a method with the whole id of the one that `given` begins, beside `params`.
    pub(super) fn change(
        &self,
        flags: Flags,
        One { id: given, plain }: One,
        method: &str,
        mut params: Value,
        show: impl FnOnce(&Value) -> Result<()>,
    ) -> Result<()> {
        let talk = async |client: &mut crate::client::GatewayClient| {
            let (listing, field) = self.known;
            let id = self.meant(list(&client.request(listing, Some(json!({}))).await?, field)?, &given)?;
            if let Some(params) = params.as_object_mut() {
                params.insert(self.id_field.into(), json!(id));
            }
            Ok(client.request(method, Some(params)).await?)
        };
        plain.talk(flags, talk, |payload, _| show(payload))
    }

    /// Says what happened to the one that the answer is about.
    pub(super) fn said(&self, payload: &Value, done: &str) -> Result<()> {
        output::text(&format!("{} {done}", short(&text(payload, self.id_field))))
    }

    /// The id of the only request that waits.
    fn only(&self, pending: &[Value]) -> Result<String> {
        let message = match pending {
            [one] => return Ok(text(one, "requestId")),
            [] => format!("no {} waits to be approved", self.one),
            several => format!("{} {} wait to be approved: say which", several.len(), self.many),
        };
        Err(self.advice(message))
    }

    /// The id of the one that `given` begins.
    fn meant(&self, known: &[Value], given: &str) -> Result<String> {
        let begins = |row: &Value| Some(text(row, self.id_field)).filter(|id| id.starts_with(given));
        let mut ids: Vec<String> = known.iter().filter_map(begins).collect();
        let message = match (ids.len(), ids.pop()) {
            (1, Some(id)) => return Ok(id),
            (0, _) => format!("no {}'s id begins with `{given}`", self.one),
            (several, _) => format!("the ids of {several} {} begin with `{given}`: give more of it", self.many),
        };
        Err(self.advice(message))
    }

    fn advice(&self, message: String) -> anyhow::Error {
        Advice::new(message).hint(format!("`leanclaw {} list` shows them", self.many)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOXES: Family =
        Family { one: "box", many: "boxes", id_field: "boxId", known: ("box.list", "boxes"), waiting: "box.pending" };

    #[test]
    fn one_is_named_by_as_much_of_its_id_as_tells_it_apart() {
        let known = [json!({"boxId": "ab12"}), json!({"boxId": "ab34"})];
        assert_eq!(BOXES.meant(&known, "ab1").unwrap(), "ab12");
        assert!(BOXES.meant(&known, "ab").unwrap_err().to_string().contains("2 boxes"));
        assert!(BOXES.meant(&known, "x").unwrap_err().to_string().contains("no box's id"));
    }

    #[test]
    fn the_only_request_need_not_be_named() {
        let one = json!({"requestId": "r1"});
        assert_eq!(BOXES.only(std::slice::from_ref(&one)).unwrap(), "r1");
        assert!(BOXES.only(&[]).unwrap_err().to_string().contains("no box waits"));
        assert!(BOXES.only(&[one.clone(), one]).unwrap_err().to_string().contains("2 boxes wait"));
    }
}

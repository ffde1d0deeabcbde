//! Batches as objects.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, path::Path};

use super::{
    config::ObjectPlan,
    object::{Object, objects, write_private},
    parquet::Rows,
    store,
};
use crate::{
    format::Formatter,
    model::Record,
    sink::{Acknowledgement, Batch, BoxFuture, Context, EncodeError, Failure, Sink, formatter},
};

/// Objects on their way at a time.
const AT_A_TIME: usize = 8;

/// An object that is not there, below the prefix.
const NOBODYS: &str = "secure-score-forwarder/is-anybody-there";

struct Objects {
    plan: ObjectPlan,
    store: Arc<dyn ObjectStore>,
    formatter: Formatter,
    rows: Rows,
}

pub(super) fn open(plan: &ObjectPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    Ok(Box::new(Objects {
        store: store::open(plan, context)?,
        formatter: formatter(plan.format, context),
        rows: Rows::new(),
        plan: plan.clone(),
    }))
}

/// Asks for an object that nobody has put. Who may put objects need not be allowed to look for them.
pub(super) async fn probe(plan: &ObjectPlan, context: &Context) -> Result<String, Failure> {
    // Below the prefix, for it may be all that the credential is allowed to see.
    let name = format!("{}/{NOBODYS}", plan.prefix);
    match store::open(plan, context)?.get(&Path::from(name)).await {
        Ok(_) => Ok("the store lets us in".to_owned()),
        Err(error) => store::asked_in_vain(&error),
    }
}

impl Sink for Objects {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        batch.push(record, |out| {
            write_private(&self.plan, record, out);
            let split = out.len();
            self.formatter.write(record, out);
            Ok(split)
        })
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>> {
        Box::pin(async move {
            let this = &*self;
            let puts = objects(batch).into_iter().map(|object| this.put(object, batch));
            // Collected, for the compiler does not see that a lazy iterator may cross threads.
            let mut puts = stream::iter(puts.collect::<Vec<_>>()).buffered(AT_A_TIME);
            let mut arrived = 0;
            while let Some(put) = puts.next().await {
                match put {
                    Ok(end) => arrived = end,
                    Err(failure) if arrived == 0 => return Err(failure),
                    Err(failure) => {
                        return Err(Failure::Partial { arrived, failure: Box::new(failure) });
                    }
                }
            }
            Ok(Acknowledgement::received())
        })
    }
}

impl Objects {
    /// Gives how far the batch has arrived with this object.
    async fn put(&self, object: Object<'_>, batch: &Batch) -> Result<usize, Failure> {
        let name = object.name(&self.plan, batch);
        let body = object.body(&self.plan, batch, &self.rows).map_err(|reason| {
            Failure::misconfigured(format!("`{name}` could not be written: {reason}"))
        })?;
        let location =
            Path::parse(&name).map_err(|error| Failure::misconfigured(error.to_string()))?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&location, body.into(), options).await {
            // Put by an attempt before, whose answer nobody heard.
            Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(object.end),
            Err(error) => Err(store::failure(&name, &error)),
        }
    }
}
